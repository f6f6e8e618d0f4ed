"""Who is told of a message.

    http.py       one request, and what went wrong with it in one line
    webhook.py    a webhook that takes Slack's form
    forge.py      what a forge is: pull requests with comments, and issues; github.py and gitlab.py are one each
    issue.py      the issue that a night's news opens, keeps and closes
    options.py    what a command line and a CI job say of them

A further forge is one file with a subclass of `Forge`, and its options.
"""
