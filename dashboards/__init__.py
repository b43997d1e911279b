"""A Dash app over the study: one page file per question."""
