"""Who may see the page: this machine, or whoever brings the token; never another site's script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import SettingsError
from streamer.settings import validate
from streamer.web import access
from streamer.web.access import Access
from streamer.web.settings import WebSettings

TOKEN = "0123456789abcdef-.=/"
LOCAL, OPEN = WebSettings(), WebSettings(host="0.0.0.0")


def test_beyond_loopback_only_with_a_token():
    with pytest.raises(SettingsError, match="SLEEPSTREAM_WEB_TOKEN"):
        Access(OPEN, None)
    with pytest.raises(SettingsError, match="at least 16"):
        Access(OPEN, "short")
    with pytest.raises(SettingsError, match="at least 16"):
        Access(OPEN, "")


@pytest.mark.parametrize(
    "strange", ["; Path=/", " and so on", "\n", "\x00", "ö", '"', ",", "&x", "#", "%41", "+", "\\"]
)
def test_a_token_that_could_never_log_in_is_refused_at_the_start(strange):
    with pytest.raises(SettingsError, match="does not fit into a web address"):
        Access(OPEN, f"0123456789abcdef{strange}")


@given(st.from_regex(access.TOKEN.pattern.replace("*", "{16,40}"), fullmatch=True))
def test_whatever_token_is_accepted_logs_in(token):
    door = Access(OPEN, token)
    cookie = door.cookie_for(f"/?token={token}")
    assert cookie is not None
    assert door.refusal("bed.lan:8421", None, cookie.split(";")[0]) is None


@pytest.mark.parametrize("host", ["127.0.0.1:8421", "localhost:8421", "[::1]:8421", "LOCALHOST"])
def test_this_machine_needs_no_token(host):
    assert Access(LOCAL, None).refusal(host, None, "") is None
    assert Access(LOCAL, None).refusal(host, f"http://{host}", "") is None


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8421", "", "192.168.1.5:8421"])
def test_a_name_that_points_here_is_refused(host):
    assert "this machine only" in (Access(LOCAL, None).refusal(host, None, "") or "")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:9", "file://"])
def test_another_site_s_script_is_refused(origin):
    assert "another site" in (Access(LOCAL, None).refusal("127.0.0.1:8421", origin, "") or "")
    assert Access(OPEN, TOKEN).refusal("bed.lan:8421", origin, f"sleepstream={TOKEN}") is not None


@pytest.mark.parametrize(
    "cookies", ["", "sleepstream=", "sleepstream=wrong", "other=1", ";;=", "sleepstream=\x00"]
)
def test_without_the_token_nothing_is_shown(cookies):
    assert "token" in (Access(OPEN, TOKEN).refusal("bed.lan:8421", None, cookies) or "")


def test_the_token_is_brought_once_and_kept_as_a_cookie():
    door = Access(OPEN, "0123456789abcdef")
    cookie = door.cookie_for("/?token=0123456789abcdef")
    assert cookie is not None
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    assert door.refusal("bed.lan:8421", "http://bed.lan:8421", cookie.split(";")[0]) is None
    assert door.refusal("bed.lan", "https://bed.lan", "a=b; " + cookie.split(";")[0]) is None
    for target in ("/", "/?token=", "/?token=0123456789abcdeg", "/?x=0123456789abcdef"):
        assert door.cookie_for(target) is None
    assert Access(LOCAL, None).cookie_for("/?token=anything-at-all-1") is None


def test_the_table_web():
    data = {"stream": [{"source": {"kind": "simulated"}}]}
    assert validate(data, "x").web is None
    found = validate({**data, "web": {}}, "x").web
    assert found is not None
    assert (found.host, found.loopback, found.url) == ("127.0.0.1", True, "http://127.0.0.1:8421/")
    with pytest.raises(SettingsError, match="did you mean"):
        validate({**data, "web": {"prt": 1}}, "x")
