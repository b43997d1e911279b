"""The `birdlab` command: each file holds the commands of one noun."""
