"""Who is told: a webhook, and forges (GitHub, GitLab) with pull requests and issues. One file each."""
