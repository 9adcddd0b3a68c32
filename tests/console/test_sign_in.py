"""Who gets in, what a browser has to refuse, and what another site's page cannot do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from supervisor.console.users import Role, TokensUnusable, Users, add, parsed
from tests.console.house import HERE, House

PAGES = (
    "/", "/account/fx", "/instrument/fx/EUR_USD", "/breaks", "/break/" + "0" * 32, "/at", "/search?q=1", "/record/1",
    "/verify",
)  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_who_is_not_signed_in_is_led_to_do_so_and_learns_nothing(house: House, page: str) -> None:
    with house.browser() as browser:
        answer = browser.get(page)
        assert (answer.status_code, answer.headers["location"].partition("?")[0], answer.text) == (303, "/sign-in", "")
        assert house.desk.looks == 0
        for live in (f"/live?page={page}", f"/live?page={page}&once=1"):
            assert browser.get(live).status_code == 401
    assert house.desk.looks == 0


def test_a_token_signs_in_with_a_cookie_that_no_script_and_no_other_site_gets(house: House) -> None:
    with house.browser() as browser:
        answer = browser.post("/sign-in", token=house.tokens["vic"], next="/breaks")
        assert (answer.status_code, answer.headers["location"]) == (303, "/breaks")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert house.tokens["vic"].lower() not in cookie
        assert "vic, viewer" in browser.text("/")


@pytest.mark.parametrize("token", ["", "x", "x" * 10_000, "\N{SNOWMAN}"])
def test_what_is_nobody_s_token_gets_nobody_in(house: House, token: str) -> None:
    with house.browser() as browser:
        answer = browser.post("/sign-in", token=token, next="/")
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
        assert browser.get("/").status_code == 303


@pytest.mark.parametrize("where", ["//evil.example/", "https://evil.example", "/\\evil.example", "javascript:x", ""])
def test_signing_in_leads_to_no_other_place(house: House, where: str) -> None:
    with house.browser() as browser:
        assert browser.post("/sign-in", token=house.tokens["vic"], next=where).headers["location"] == "/"


def test_signing_out_ends_the_session_and_not_the_cookie_alone(house: House) -> None:
    with house.browser("ann") as browser:
        kept = dict(browser.cookies)
        assert browser.send("/sign-out").headers["location"] == "/sign-in"
        browser.cookies = kept
        assert browser.get("/").status_code == 303


def test_a_session_ends_by_itself_after_half_a_day(house: House) -> None:
    with house.browser("ann") as browser:
        house.later(11.9 * 3600)
        assert browser.get("/").status_code == 200
        house.later(0.2 * 3600)
        assert browser.get("/").status_code == 303


def test_who_is_taken_out_of_the_file_is_signed_out_at_once_and_a_new_role_counts_at_once(house: House) -> None:
    file = Path(house.configuration.console_tokens)
    with house.browser("bob") as bob, house.browser("ann") as ann:
        lines = file.read_text().splitlines()
        file.write_text("\n".join(re.sub("^ann operator", "ann viewer", one) for one in lines if "bob" not in one))
        assert bob.get("/").status_code == 303
        assert "ann, viewer" in ann.text("/")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_or_write_lets_nobody_in(house: House, mode: int) -> None:
    file = house.configuration.console_tokens
    with house.browser("ann") as ann, house.browser() as other:
        os.chmod(file, mode)
        assert ann.get("/").status_code == 303
        answer = other.post("/sign-in", token=house.tokens["bob"], next="/")
        assert answer.status_code == 503
        assert f"chmod 600 {file}" in answer.text
        os.chmod(file, 0o600)
        assert other.post("/sign-in", token=house.tokens["bob"], next="/").status_code == 303


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "names nobody"),
        ("# nobody yet\n", "names nobody"),
        ("ann operator\n", "line 1"),
        ("ann operator secret\n", "line 1"),
        ("ann admin sha256:" + "0" * 64, "line 1"),
        ("ann viewer sha256:" + "0" * 64 + "\nann operator sha256:" + "1" * 64, "a second time in line 2"),
        ("<b> viewer sha256:" + "0" * 64, "line 1"),
    ],
)
def test_a_file_that_cannot_be_read_whole_lets_nobody_in_and_says_why(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(TokensUnusable, match=found):
        Users(str(file)).all()


def test_adding_somebody_keeps_the_others_and_the_token_stands_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "var" / "tokens"
    first = add(str(file), "ann", Role.OPERATOR)
    second = add(str(file), "bob", Role.APPROVER)
    again = add(str(file), "ann", Role.VIEWER)
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(token in text for token in (first, second, again))
    assert [(user.name, user.role) for user in parsed(str(file), text)] == [
        ("bob", Role.APPROVER),
        ("ann", Role.VIEWER),
    ]
    users = Users(str(file))
    assert users.by_token(first) is None
    assert [users.by_token(token).name for token in (second, again)] == ["bob", "ann"]  # type: ignore[union-attr]  # both are there
    with pytest.raises(ValueError, match="no name"):
        add(str(file), "an n", Role.VIEWER)


def test_every_answer_forbids_scripts_from_elsewhere_frames_and_being_kept(house: House) -> None:
    with house.browser("vic") as browser:
        for path in (*PAGES, "/nowhere", "/static/console.js", "/live?page=/&once=1"):
            headers = browser.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            if not path.startswith("/static"):
                assert headers["cache-control"] == "no-store"


def test_no_page_asks_for_anything_from_elsewhere_or_holds_a_script_or_style_of_its_own(house: House) -> None:
    with house.browser("bob") as browser:
        for path in PAGES:
            text = browser.get(path).text
            assert not re.search(r"""(src|href|action)="(?!/|#|")""", text), path
            assert not re.search(r"<script(?! src=)|<style|\son[a-z]+=|\sstyle=|hx-on", text), path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:8321", ""])
def test_under_a_name_that_is_not_ours_there_is_no_page(house: House, host: str) -> None:
    with house.browser("vic") as browser:
        answer = browser.get("/", host=host)
        assert answer.status_code == 421
        assert "EUR_USD" not in answer.text


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1", f"{HERE}.evil.example"])
def test_another_site_s_form_does_nothing(house: House, origin: str | None) -> None:
    with house.browser("bob") as browser:
        csrf = browser.csrf()
        form = {"do": "halt", "looked": "yes", "csrf": csrf}
        assert browser.post("/halt", origin=origin, **form).status_code == 403
        assert browser.post("/sign-in", origin=origin, token=house.tokens["vic"]).status_code == 403
    assert house.desk.asked == []


def test_a_form_without_this_session_s_secret_does_nothing(house: House) -> None:
    with house.browser("bob") as bob, house.browser("ann") as ann:
        for wrong in ("", "x", ann.csrf(), "\N{SNOWMAN}"):
            answer = bob.post("/halt", do="halt", looked="yes", csrf=wrong)
            assert (answer.status_code, "of an earlier session" in answer.text) == (403, True)
    assert house.desk.asked == []


def test_a_link_in_a_mail_leads_back_to_the_session_there_is(house: House) -> None:
    with house.browser() as browser:
        answer = browser.get("/breaks", **{"sec-fetch-site": "cross-site"})
        assert 'http-equiv="refresh"' in answer.text
        assert browser.get("/breaks", **{"sec-fetch-site": "same-origin"}).status_code == 303
