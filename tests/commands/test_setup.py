"""A start without an editor: answers in, settings and unit out, and nothing half-written or overwritten."""

import getpass
import io
import os
import stat
import sys
from pathlib import Path

import pytest

from streamer.cli import main
from streamer.commands import setup
from streamer.commands.discovery import LslStream
from streamer.commands.unit import list_next_steps, make_unit
from streamer.errors import UsageError
from streamer.settings import load
from streamer.sources.settings import BrainflowSettings, LslSettings, RdaSettings, SimulatedSettings
from tests.test_cli import fails

MUSE = LslStream("Muse", "EEG", 4, ("TP9", "AF7", "AF8", "TP10"), 256.0, "attic", "m1")
WORDS = LslStream("words", "Markers", 1, (), 0.0, "attic", "w1", "text, not samples")


class Keyboard(io.StringIO):
    """A terminal at which somebody types these lines."""

    def isatty(self):
        return True


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(setup, "find_lsl_streams", lambda: [MUSE, WORDS])
    return tmp_path


def typed(monkeypatch, *lines):
    monkeypatch.setattr(sys, "stdin", Keyboard("".join(f"{line}\n" for line in lines)))


def written(home):
    return load(home / ".config/sleepstream/sleepstream.toml")


def test_a_person_answers_and_the_settings_are_there(home, monkeypatch, capsys):
    typed(monkeypatch, "anna", "1", "AF7-TP9", "broker.local:1884", "yes", "07:00", "no", "none")
    assert main(["setup"]) == 0
    out = capsys.readouterr().out
    assert "1: Muse (type EEG, 256 Hz, TP9 AF7 AF8 TP10)" in out
    assert "words" not in out  # no samples
    path = home / ".config/sleepstream/sleepstream.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    ready = written(home)
    (stream,) = ready.stream
    assert (stream.name, stream.signal.channel) == ("anna", "AF7-TP9")
    assert isinstance(stream.source, LslSettings)
    assert (stream.source.name, stream.source.type) == ("Muse", "EEG")
    assert (ready.mqtt.host, ready.mqtt.port) == ("broker.local", 1884)
    assert ready.homeassistant is not None
    assert (stream.alarm.deadline.hour, stream.alarm.armed, stream.alarm.daily) == (7, True, True)
    assert "sleepstream doctor" in out


def test_empty_lines_take_what_is_usual(home, monkeypatch):
    typed(monkeypatch, *[""] * 9)
    assert main(["setup"]) == 0
    ready = written(home)
    assert ready.stream[0].source.name == "Muse"
    assert (ready.stream[0].signal.channel, ready.mqtt, ready.stream[0].alarm) == (None, None, None)


def test_a_wrong_answer_is_asked_again_in_words(home, monkeypatch, capsys):
    typed(
        monkeypatch, "a/b", "anna", "7", "tape", "1", "C3", "AF7", "a b", "none", "7:00", "07:00", "", "x", ""
    )
    assert main(["setup"]) == 0
    out = capsys.readouterr().out
    for words in (
        "'a/b' is not a valid name",
        "'7' is not a source",
        "'tape' is not a source",
        "no channel 'C3'; there are",
        "'a b' is not a host",
        "'7:00' is not a time of day; write it as '07:00'",
        "'x' is neither user, system nor none",
    ):
        assert words in out
    assert written(home).stream[0].alarm.deadline.hour == 7


@pytest.mark.parametrize(
    ("source", "kind", "is_so"),
    [
        ("lsl", LslSettings, lambda one: one.type == "EEG" and one.name is None),
        ('lsl:My "Muse" \\ 2', LslSettings, lambda one: one.name == 'My "Muse" \\ 2'),
        ("brainflow:muse 2", BrainflowSettings, lambda one: one.board == "muse 2"),
        ("rda:10.0.0.5:51234", RdaSettings, lambda one: (one.host, one.port) == ("10.0.0.5", 51234)),
        ("simulated", SimulatedSettings, lambda one: True),
    ],
)
def test_options_answer_where_there_is_no_terminal(home, monkeypatch, tmp_path, source, kind, is_so):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    config = tmp_path / "new" / "c.toml"
    assert main(["setup", "--config", str(config), "--source", source, "--broker", "embedded"]) == 0
    ready = load(config)
    assert isinstance(ready.stream[0].source, kind)
    assert is_so(ready.stream[0].source)
    assert ready.mqtt.embedded
    assert ready.stream[0].name


def test_without_a_terminal_it_refuses_in_one_line(home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "there is no terminal to ask at; give --source" in fails(capsys, 2, "setup")
    for option, value, why in (
        ("--source", "tape", "is not a source"),
        ("--alarm", "7:00", "write it as '07:00'"),
        ("--broker", "a b", "is not a host"),
        ("--broker", "h:99999", "the maximum is 65535"),
        ("--name", "a/b", "is not a valid name"),
    ):
        assert why in fails(capsys, 2, "setup", "--yes", option, value)
    assert not (home / ".config").exists()


def test_nothing_is_overwritten_and_ctrl_c_leaves_nothing(home, monkeypatch, capsys):
    config = home / "c.toml"
    config.write_text("mine")
    assert "not overwritten" in fails(capsys, 2, "setup", "--yes", "--config", config)
    assert config.read_text() == "mine"

    def given_up(question):
        if "Wake" in question:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(sys, "stdin", Keyboard())
    monkeypatch.setattr("builtins.input", given_up)
    other = home / "new" / "c.toml"
    assert main(["setup", "--config", str(other)]) == 130
    assert not other.parent.exists()


def test_one_that_comes_between_is_kept(home, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("theirs")
    with pytest.raises(UsageError, match="not overwritten"):
        setup._write_new(path, "ours", "--config")
    assert [one.read_text() for one in tmp_path.iterdir() if one.is_file()] == ["theirs"]


def test_answers_that_end_early_are_one_line(home, monkeypatch, capsys):
    typed(monkeypatch, "anna")
    assert main(["setup"]) == 2
    assert "no answer to 'Source" in capsys.readouterr().err
    assert not (home / ".config").exists()


def test_a_user_s_unit_runs_this_sleepstream(home, monkeypatch, capsys):
    assert main(["setup", "--yes", "--service", "user"]) == 0
    file = home / ".config/systemd/user/sleepstream.service"
    text = file.read_text()
    assert f"ExecStart={Path(sys.executable).with_name('sleepstream')} run " in text
    assert f'"PATH={Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"' in text
    assert "User=" not in text
    assert "WantedBy=default.target" in text
    assert "systemctl --user enable --now sleepstream" in capsys.readouterr().out
    assert "not overwritten" in fails(
        capsys, 2, "setup", "--yes", "--config", home / "b.toml", "--service", "user"
    )
    assert not (home / "b.toml").exists()


def test_a_system_unit_has_its_groups_and_survives_odd_paths(home, capsys):
    config = home / "my 100% $ettings" / "c.toml"
    assert main(["setup", "--yes", "--config", str(config), "--service", "system"]) == 0
    text = make_unit("system", config, ["audio", "dialout"])
    assert f"User={getpass.getuser()}\nSupplementaryGroups=audio dialout\n" in text
    assert 'my 100%% $$ettings/c.toml" --log json' in text
    assert "SupplementaryGroups" not in make_unit("system", config, [])
    out = capsys.readouterr().out
    assert "sudo install -m 644" in out
    assert config.with_name("sleepstream.service").is_file()


def test_who_lacks_a_group_is_told():
    steps = list_next_steps("user", Path("/x/sleepstream.service"), ["audio", "dialout"])
    assert steps[0].startswith(f"sudo usermod -aG audio,dialout {getpass.getuser()}")
    assert not any("usermod" in step for step in list_next_steps("user", Path("/x"), []))


def test_fit_is_run_when_wanted(home, capsys):
    code = main(["setup", "--yes", "--source", "rda:127.0.0.1:1", "--fit", "--config", str(home / "c.toml")])
    out = capsys.readouterr().out
    assert code == 1  # nobody is there
    assert "written:" in out
    assert "127.0.0.1" in out
    assert os.path.exists(home / "c.toml")
