import re
from pathlib import Path

import pytest

from longwick.errors import BadSetting
from longwick.settings import FOREIGN_NAMES, Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a command is started in, which may hold a `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_any_variable_all_has_a_default(work_folder: Path) -> None:
    settings = Settings.from_environ()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.data_dir == work_folder / "longwick-data"
    assert settings.database == f"sqlite:///{work_folder}/longwick-data/record.db"
    assert settings.redis == "redis://127.0.0.1:6379/0"


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWICK_PORT", "9000")
    monkeypatch.setenv("LONGWICK_ALLOW_UNSANDBOXED", "1")
    monkeypatch.setenv("LONGWICK_DATABASE_URL", "postgresql://db/longwick")
    settings = Settings.from_environ()
    assert (settings.port, settings.allow_unsandboxed, settings.database) == (9000, True, "postgresql://db/longwick")


def test_the_environment_wins_over_the_file_and_an_override_over_both(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work_folder / ".env").write_text("LONGWICK_PORT=1\nLONGWICK_CONCURRENCY=1\nLONGWICK_HOST=::1\nOTHER=1\n")
    monkeypatch.setenv("LONGWICK_PORT", "2")
    monkeypatch.setenv("LONGWICK_CONCURRENCY", "2")
    settings = Settings.from_environ(port=3, concurrency=None)
    assert (settings.port, settings.concurrency, settings.host) == (3, 2, "::1")


def test_an_empty_variable_is_no_variable() -> None:
    assert Settings.from_environ({"LONGWICK_PORT": "", "LONGWICK_AGENTS_FILE": ""}) == Settings.from_environ({})


def test_a_misspelt_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadSetting, match=r"LONGWICK_PROT; did you mean LONGWICK_PORT\?"):
        Settings.from_environ({"LONGWICK_PROT": "9000"})
    with pytest.raises(BadSetting, match=r"LONGWICK_QQQQQQ \(docs/settings.md"):
        Settings.from_environ({"LONGWICK_QQQQQQ": "1"})


def test_what_agents_and_clients_are_given_is_not_called_misspelt() -> None:
    assert Settings.from_environ({f"LONGWICK_{name}": "x" for name in FOREIGN_NAMES}) == Settings.from_environ({})


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "eighty"), ("PORT", "70000"), ("CONCURRENCY", "0"), ("BEAT_SECONDS", "-1"), ("LOG_LEVEL", "loud")],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"LONGWICK_{name}: .*{value}"):
        Settings.from_environ({f"LONGWICK_{name}": value})


def test_a_lease_that_two_late_beats_would_lose_is_refused() -> None:
    with pytest.raises(BadSetting, match="at least three times"):
        Settings.from_environ({"LONGWICK_LEASE_SECONDS": "5", "LONGWICK_BEAT_SECONDS": "2"})


def test_a_refusal_does_not_tell_the_password_of_the_database() -> None:
    with pytest.raises(BadSetting) as refused:
        Settings.from_environ({"LONGWICK_DATABASE_URL": "postgresql://me:hunter2@db/x", "LONGWICK_LEASE_SECONDS": "1"})
    assert "hunter2" not in refused.value.detail


def test_paths_are_absolute_from_the_start(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    settings = Settings.from_environ({"LONGWICK_DATA_DIR": "data", "LONGWICK_AGENTS_FILE": "~/agents.toml"})
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert (settings.data_dir, settings.agents_file) == (work_folder / "data", Path("/home/ada/agents.toml"))


def test_a_child_process_gets_the_very_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWICK_PORT", "9000")
    settings = Settings.from_environ(
        allow_unsandboxed=True, beat_seconds=0.1, claude_bin="/opt/a b/claude", agents_file="agents.toml", port=9001
    )
    environ = settings.child_environ()
    monkeypatch.chdir("/")
    assert Settings.from_environ(environ) == settings
    assert environ["PATH"]


def test_a_setting_can_be_kept_in_a_file(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work_folder / "url").write_text("postgresql://me:secret@db/longwick\n")
    monkeypatch.setenv("LONGWICK_DATABASE_URL_FILE", "url")
    monkeypatch.setenv("LONGWICK_REDIS_URL_FILE", "")
    settings = Settings.from_environ()
    assert settings.database == "postgresql://me:secret@db/longwick"
    assert settings.redis_url == ""
    environ = settings.child_environ()
    assert "LONGWICK_DATABASE_URL_FILE" not in environ
    assert Settings.from_environ(environ) == settings


def test_a_setting_whose_name_ends_like_a_file_is_one(work_folder: Path) -> None:
    assert Settings.from_environ({"LONGWICK_AGENTS_FILE": "a.toml"}).agents_file == work_folder / "a.toml"
    with pytest.raises(BadSetting, match="LONGWICK_AGENTS_FILE_FILE: cannot read"):
        Settings.from_environ({"LONGWICK_AGENTS_FILE_FILE": "a.toml"})


def test_a_file_that_cannot_be_read_is_refused_and_so_is_a_choice_of_two(work_folder: Path) -> None:
    with pytest.raises(BadSetting, match="LONGWICK_REDIS_URL_FILE: cannot read missing"):
        Settings.from_environ({"LONGWICK_REDIS_URL_FILE": "missing"})
    with pytest.raises(BadSetting, match="LONGWICK_PORT and LONGWICK_PORT_FILE are both set"):
        Settings.from_environ({"LONGWICK_PORT": "1", "LONGWICK_PORT_FILE": "missing"})
    with pytest.raises(BadSetting, match="LONGWICK_PROT_FILE"):
        Settings.from_environ({"LONGWICK_PROT_FILE": "missing"})


def test_the_environment_wins_over_a_file_that_the_file_names(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work_folder / "port").write_text("1")
    (work_folder / ".env").write_text("LONGWICK_PORT_FILE=port\n")
    assert Settings.from_environ().port == 1
    monkeypatch.setenv("LONGWICK_PORT", "2")
    assert Settings.from_environ().port == 2


def test_whom_a_proxy_names_is_believed_only_from_where_it_is_said_to_be() -> None:
    with pytest.raises(BadSetting, match="LONGWICK_PROXY_SOURCES must say"):
        Settings.from_environ({"LONGWICK_PROXY_USER_HEADER": "X-User"})
    with pytest.raises(BadSetting, match=r"LONGWICK_PROXY_SOURCES: .*does not appear to be an IPv4 or IPv6 network"):
        Settings.from_environ({"LONGWICK_PROXY_SOURCES": "127.0.0.1, example.org"})
    with pytest.raises(BadSetting, match="LONGWICK_PROXY_USER_HEADER"):
        Settings.from_environ({"LONGWICK_PROXY_USER_HEADER": "X User", "LONGWICK_PROXY_SOURCES": "::1"})
    settings = Settings.from_environ({"LONGWICK_PROXY_SOURCES": " 10.0.0.0/8 ,::1"})
    assert [str(network) for network in settings.proxies] == ["10.0.0.0/8", "::1/128"]


def test_the_example_shows_every_setting_with_its_default() -> None:
    shown = dict(re.findall(r"^# (LONGWICK_\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    assert set(shown) == {f"LONGWICK_{name.upper()}" for name in Settings.model_fields}
    assert Settings.from_environ(shown) == Settings.from_environ({})
