"""What the numbers allow one to say: verdicts, noise, CV against the leaderboard, figures."""
