"""Who can reach the web tier at its address, and whom it lets in."""

from sqlalchemy.exc import SQLAlchemyError

from longwick import keys
from longwick.database import Database
from longwick.errors import BadSetting, Unavailable
from longwick.settings import Settings, is_loopback


def check_bind(settings: Settings, host: str, database: Database) -> None:
    """Refuse an address that others can reach, as long as nothing asks them who they are.

    A record that does not answer is no reason: as long as it does not, nobody gets in.

    Raises:
        BadSetting: it is one.
    """
    if is_loopback(host) or settings.proxy_user_header:
        return
    try:
        if database.read(keys.any_there):
            return
    except Unavailable:
        return
    except SQLAlchemyError as error:
        raise BadSetting(f"LONGWICK_HOST: {host} wants keys, and the record knows none: `longwick migrate`") from error
    raise BadSetting(
        f"LONGWICK_HOST: {host} can be reached from other machines, and there is no key yet: nobody could come in but "
        "by being there. Make one (longwick keys create), or use 127.0.0.1 and a tunnel (ssh -L)."
    )


def in_words(settings: Settings, database: Database) -> str:
    """Who may get in."""
    ways = [f"whom {settings.proxy_sources} names in {settings.proxy_user_header}"] * bool(settings.proxy_user_header)
    listed = database.read(keys.list_keys)
    if listed:
        live = database.read(keys.live_keys)
        owned = sorted({key.owner for key in live})
        ways.append(f"{len(live)} of {len(listed)} keys, of {', '.join(owned)}" if live else "no key: all are over")
    elif not ways:
        return "whoever is on this machine, as `local`: there are no keys"
    return "; ".join(ways)
