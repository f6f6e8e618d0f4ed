"""`hybrid-perf notify` against a server that plays a webhook and two forges, with its refusals and time-outs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_ops.cli import main
from hybrid_ops.report.messages.slack import MOST_LETTERS_OF_A_BLOCK, slack_payload
from hybrid_ops.report.messages.text import Code, Entry, Message, Part
from tests.report.messages.forge_server import SECRET_PATH, TOKEN, Forge
from tests.report.messages.test_night_messages import Store, broken, engine

FAULTS = [
    (401, "401: the token is not accepted"),
    (403, "403: the token may not do this"),
    (404, "404: there is no such thing"),
    (422, "422: the request was refused"),
    (500, "500: it failed there"),
    (302, "302: it was refused"),
    ("hang", "no answer within 0.2 s"),
    ("drop", "Server disconnected without sending a response"),
]


class Notifier(Store):
    """A history whose nights are told to a server."""

    forge: Forge

    def tell(self, *words: str, code: int = 0) -> str:
        """Tell the receivers; what the program printed, which is never a secret."""
        quick = [] if "--timeout" in words else ["--timeout", "0.2"] if self.forge.fault == "hang" else []
        assert main(["notify", "--store", str(self.path), *words, *quick]) == code
        said = self._capsys.readouterr()
        assert said.out == ""
        assert TOKEN not in said.err and "secret-of-the-webhook" not in said.err and "Traceback" not in said.err
        return said.err

    def post(self, code: int = 0) -> str:
        return self.tell("--webhook", self.forge.url + SECRET_PATH, code=code)

    def issue(self, kind: str = "github", code: int = 0) -> str:
        return self.tell("--issue", kind, f"--{kind}", "own/repo", "--api", self.forge.url, code=code)


@pytest.fixture
def notifier(tmp_path: Path, capsys: pytest.CaptureFixture[str], forge: Forge) -> Notifier:
    made = Notifier(tmp_path / "history.sqlite", capsys)
    made.forge = forge
    return made


def texts(forge: Forge) -> list[str]:
    return ["\n".join(block["text"]["text"] for block in message["blocks"]) for message in forge.messages]


def test_a_webhook_is_told_once_of_each_news(notifier: Notifier, forge: Forge) -> None:
    notifier.night(*engine())
    assert notifier.post() == "hybrid-perf notify: nothing to say to the webhook\n"
    assert forge.requests == []
    notifier.night(*engine(factor=1.4))
    assert notifier.post() == ""
    notifier.post()
    notifier.night(*engine(factor=1.4))
    notifier.post()
    assert forge.requests == [("POST", SECRET_PATH)], "neither a second call nor a second night tells it again"
    notifier.night(*engine())
    notifier.post()
    [first, second] = texts(forge)
    assert "3 of 3 cells slower together, 40 % worse" in first
    assert "3 of 3 cells fine again" in second
    assert forge.messages[0]["text"] == "Performance on `h200`: 3 cells worse; night `night-0001`"
    assert set(forge.tokens) == {None}, "a webhook gets no token"


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_a_message_that_did_not_arrive_is_told_with_the_next_night(
    notifier: Notifier, forge: Forge, fault: int | str, reason: str
) -> None:
    notifier.night(*engine(), *engine("other"))
    notifier.night(*engine(factor=1.4), *engine("other"))
    forge.fault = fault
    said = notifier.post(code=1)
    assert said.count("\n") == 1
    assert said.startswith(f"hybrid-perf notify: not told: {forge.url}/…: {reason}")
    notifier.night(*engine(factor=1.4), *broken("other"))
    notifier.post(code=1)
    forge.fault = None
    notifier.night(*engine(factor=1.4), *broken("other"))
    notifier.post()
    [text] = texts(forge)
    assert "3 of 3 cells slower together, 40 % worse (median), since `night-0001`" in text
    assert "3 cells: `RuntimeError: out of memory`" in text and "differs from `night-0000`" in text


def test_a_first_message_that_did_not_arrive_is_not_lost(notifier: Notifier, forge: Forge) -> None:
    notifier.night(*engine(factor=1.4))
    forge.fault = 500
    notifier.post(code=1)
    forge.fault = None
    notifier.night(*engine(factor=1.4))
    notifier.post()
    assert "3 of 3 cells slower together" in texts(forge)[0]


def test_a_dry_run_shows_what_is_owed_and_keeps_nothing(notifier: Notifier, forge: Forge) -> None:
    notifier.night(*engine())
    notifier.night(*engine(factor=1.4))
    before = notifier.path.read_bytes()
    assert notifier.told() != ""
    assert notifier.path.read_bytes() == before
    forge.fault = 500
    notifier.post(code=1)
    notifier.night(*engine(factor=1.4))
    assert "since `night-0001`" in notifier.told()


def test_the_address_may_come_from_the_environment(
    notifier: Notifier, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_PERF_WEBHOOK", forge.url + SECRET_PATH)
    monkeypatch.setenv("CI_JOB_URL", "https://ci/job/7?a=1&b=<2>")
    notifier.night(*engine(factor=1.4))
    notifier.tell()
    assert "• more: <https://ci/job/7?a=1&amp;b=%3C2%3E>" in texts(forge)[0]


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_an_issue_is_opened_told_and_closed(notifier: Notifier, forge: Forge, kind: str) -> None:
    forge.issues += [{"number": n, "iid": n, "state": "open", "body": "", "description": None} for n in range(1, 151)]
    notifier.night(*engine(), *engine("other"))
    notifier.issue(kind)
    assert forge.writes == []
    notifier.night(*engine(factor=1.4), *engine("other"))
    notifier.issue(kind)
    issue = forge.issues[150]
    assert issue["title"] == "Performance on h200"
    body = issue["body" if kind == "github" else "description"]
    assert body.startswith("<!-- hybrid-perf issue h200 -->\n**Performance on `h200`: 3 cells worse;")
    notifier.night(*engine(factor=1.4), *engine("other"))
    notifier.issue(kind)
    assert len(forge.writes) == 1
    notifier.night(*engine(factor=1.4), *broken("other"))
    notifier.issue(kind)
    notifier.night(*engine(), *broken("other"))
    notifier.issue(kind)
    assert issue["state"] == "open" and len(forge.notes_of_issues) == 2
    notifier.night(*engine(), *engine("other"))
    notifier.issue(kind)
    assert issue["state"] == "closed"
    assert forge.notes_of_issues[-1].endswith("Nothing is bad any more as of night `night-0005`.\n")
    writes = len(forge.writes)
    notifier.night(*engine(), *engine("other"))
    notifier.issue(kind)
    assert len(forge.writes) == writes
    assert set(forge.tokens) == {f"Bearer {TOKEN}"}


def test_an_answer_that_is_no_list_of_issues_is_one_line(notifier: Notifier, forge: Forge) -> None:
    notifier.night(*engine(factor=1.4))
    forge.issues.append({"number": "seven", "body": "", "state": "open"})
    assert "without number" in notifier.issue(code=1)


def test_an_issue_that_could_not_be_found_again_is_not_left_open(notifier: Notifier, forge: Forge) -> None:
    forge.may_label = False
    notifier.night(*engine(factor=1.4))
    assert "issue 1 got no label hybrid-perf" in notifier.issue(code=1)
    assert [issue["state"] for issue in forge.issues] == ["closed"]


@pytest.mark.parametrize(("fault", "reason"), [*FAULTS, ("no json", "the answer is not JSON")])
@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_a_forge_that_refuses_is_one_line_and_another_receiver_is_told(
    notifier: Notifier, forge: Forge, kind: str, fault: int | str, reason: str
) -> None:
    notifier.night(*engine(factor=1.4))
    forge.fault = fault
    said = notifier.issue(kind, code=1)
    assert reason in said and f"{forge.url}: GET /" in said and said.count("\n") == 1
    forge.fault = None
    notifier.tell(
        "--webhook", forge.url + SECRET_PATH, "--issue", kind, f"--{kind}", "own/repo", "--api", "http://127.0.0.1:9",
        code=1,
    )  # fmt: skip
    assert len(forge.messages) == 1 and forge.issues == []
    notifier.issue(kind)
    assert len(forge.issues) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nobody is to be told: give --webhook, HYBRID_PERF_WEBHOOK or --issue, or print with --dry-run"),
        (["--webhook", "hooks.example/secret-of-the-webhook"], "--webhook: not an address that begins with https://"),
        (["--webhook", "https://a:b:c/secret-of-the-webhook"], "--webhook: not an address that begins with https://"),
        (["--issue", "github"], "--github OWNER/REPO is missing, and GITHUB_REPOSITORY is not set"),
        (["--issue", "github", "--github", "repo"], "--github: OWNER/REPO is asked for, not 'repo'"),
        (["--issue", "gitlab"], "--gitlab PROJECT is missing, and CI_PROJECT_ID is not set"),
        (["--issue", "gitlab", "--gitlab", "7", "--api", "x"], "--api: not an address that begins with https://"),
    ],
)
def test_bad_input_is_one_line(notifier: Notifier, words: list[str], message: str) -> None:
    notifier.night(*engine())
    said = notifier.tell(*words, code=2)
    assert said.startswith(f"hybrid-perf: error: {message}") and said.count("\n") == 1


@pytest.mark.parametrize("token", ["", "a\nb", "ü"])
def test_a_token_that_is_none_is_bad_input(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch, forge: Forge, token: str
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", token)
    notifier.night(*engine(factor=2.0))
    assert notifier.issue(code=2).startswith("hybrid-perf: error: GITHUB_TOKEN")
    assert forge.requests == []


def test_blocks_keep_to_slacks_limit() -> None:
    entries = [Entry((Code(f"cell-{number} " + "x" * 290),), [(Code("y" * 400),)]) for number in range(20)]
    payload = slack_payload(Message(("title",), [Part("New", entries)], [(Code("z" * 9000, 9000),)]))
    blocks = [block["text"]["text"] for block in payload["blocks"]]
    assert max(map(len, blocks)) <= MOST_LETTERS_OF_A_BLOCK and len(blocks) > 2
    assert sum(block.count("cell-") for block in blocks) == 20
