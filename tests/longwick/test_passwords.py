import threading
from pathlib import Path

from longwick import passwords
from longwick.settings import Settings


def test_a_password_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "data" / "some.password"
    made, new = passwords.remembered(file)
    assert (len(made) >= 32, new) == (True, True)
    assert passwords.remembered(file) == (made, False)
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_of_several_that_come_at_once_one_makes_it(tmp_path: Path) -> None:
    found: list[tuple[str, bool]] = []
    start = threading.Barrier(8)

    def ask(number: int) -> None:
        start.wait()
        found.append(passwords.remembered(tmp_path / "some.password"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({password for password, _ in found}) == 1
    assert [new for _, new in found].count(True) == 1


def test_flowers_is_the_one_that_was_set_or_else_one_that_is_kept(tmp_path: Path) -> None:
    settings = Settings.from_environ({}, data_dir=tmp_path)
    kept, new = passwords.of_flower(settings)
    assert new
    assert passwords.flower_file(settings).read_text() == kept + "\n"
    chosen = settings.model_copy(update={"flower_password": "chosen"})
    assert passwords.of_flower(chosen) == ("chosen", False)
