"""Messages to people who did not watch the run: what is new, worse or recovered since the last message, by cause.

    states.py     what is known of each cell after a run: worse, unmeasured or fine
    causes.py     which cells share a cause, and what is news
    text.py       a message as text that is not yet of any form
    entries.py    news as the entries of a message
    markdown.py   the form of GitHub and GitLab
    slack.py      the form of Slack
    changes.py    the steps and drifts of a night that are news
    night.py      the message of a night, from the history
    comment.py    the comment on a pull request, from the results of runs, with what it has told inside it
    commands.py   the commands that measure again and that accept

docs/messages.md says what is news, and who is told.
"""
