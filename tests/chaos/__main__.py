"""The long runs: ``python -m chaos all``, or one of ``sweep``, ``storm``, ``mutations``.

Each prints its seed first and last, and the command that repeats it.
"""

import argparse
import secrets
import sys
import tempfile
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from backing_services import Services
from certificates import an_identity
from chaos import mutations
from chaos.host import HOSTS, Host
from chaos.rig import rigged
from chaos.storm import SETTINGS, Outcome, Storm, run
from chaos.sweep import Leg, all_legs, plan, run_legs
from fleek.registry import dispatchers
from redisserver import RedisServer

HUNG: Final = {"several": {"ATTEMPT_TIMEOUT": "8"}}  # of which some predictions never end
SILENT: Final = ("openai", "comfyui")  # send no callbacks
EXACT: Final = {"jobs": 2000, "kills": 100, "minutes": 10.0}
WILD: Final = {"jobs": 800, "kills": 60, "minutes": 7.0}


def say(*words: object) -> None:
    """Print a line without buffering."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


@contextmanager
def database(kind: str) -> Generator[dict[str, str]]:
    """Return the settings of an empty database; SQLite needs none."""
    if kind == "sqlite":
        yield {}
        return
    services = Services.open()
    try:
        with services.database() as url:
            yield {"DATABASE_URL": url}
    finally:
        services.close()


@contextmanager
def broker(dispatch: str) -> Generator[dict[str, str]]:
    """Return the settings of a dispatcher, with an empty Redis of its own if it needs one."""
    if dispatch == "embedded":
        yield {}
        return
    server = RedisServer()
    server.start()
    try:
        yield {"DISPATCH": dispatch, "REDIS_URL": server.url()}
    finally:
        server.stop()


def sweep(chosen: argparse.Namespace) -> bool:
    """Strike every failpoint, so many in one service; whether all came out right."""
    folder = Path(tempfile.mkdtemp(prefix="fleek-sweep-"))
    legs = [leg for leg in all_legs() if chosen.only in leg.orders]
    first = chosen.first - 1
    host, bad = Host(folder, seed=chosen.seed), 0
    for number in range(first, len(legs), chosen.together):
        some = legs[number : number + chosen.together]
        found = _legs(folder / str(number), host, some, chosen)
        struck = ", ".join(leg.orders for leg in some)
        last = number + len(some)
        say(f"{last}/{len(legs)} {chosen.database} {struck}", "bad" if found else "ok")
        for one in found:
            say("   ", one)
        bad += bool(found)
    host.close()
    say(f"sweep: {len(legs) - first} crash points on {chosen.database}, {bad} bad; {folder}")
    return not bad


def _legs(folder: Path, host: Host, legs: Sequence[Leg], chosen: argparse.Namespace) -> list[str]:
    folder.mkdir()
    plan(host, seed=chosen.seed)
    try:
        with database(chosen.database) as extra, rigged(folder, host, **extra) as rig:
            return run_legs(rig, legs)
    except Exception:  # noqa: BLE001 - the other legs are still tried
        return [traceback.format_exc()]


def storm(chosen: argparse.Namespace) -> bool:
    """Run one storm, and return whether it passed."""
    folder = Path(tempfile.mkdtemp(prefix="fleek-storm-"))
    wanted = Storm(
        seed=chosen.seed,
        jobs=chosen.jobs,
        kills=chosen.kills,
        minutes=chosen.minutes,
        wild=chosen.wild,
        split=not chosen.one,
        repeats=chosen.provider == "comfyui",
        by_callback=chosen.provider.startswith("fal"),
        polling=chosen.polling or chosen.provider.startswith(SILENT),
        several=chosen.provider == "several",
        signed=chosen.signed,
        thumbnails=chosen.thumbnails,
    )
    extras = {"MAKE_THUMBNAILS": "true"} if chosen.thumbnails else {}
    if chosen.signed:
        identity = an_identity(folder)
        extras["C2PA_CERTIFICATES"] = str(identity.certificates)
        extras["C2PA_PRIVATE_KEY"] = str(identity.key)
    say(wanted, chosen.database, folder)
    host = HOSTS[chosen.provider](folder, seed=chosen.seed)
    try:
        with (
            database(chosen.database) as extra,
            broker(chosen.dispatch) as dispatch,
            rigged(
                folder,
                host,
                **(SETTINGS | extra | dispatch | extras | HUNG.get(chosen.provider, {})),
            ) as rig,
        ):
            outcome = run(rig, wanted)
    finally:
        host.close()
    _report(outcome)
    return not outcome.complaints


def _report(outcome: Outcome) -> None:
    paid, deeds = outcome.paid, outcome.deeds
    say(f"deeds: {dict(deeds)}")
    for state, times in outcome.seen.items():
        say(f"  {times:6} {state}")
    say(f"money: {paid}")
    say(
        f"{outcome.jobs} jobs, {deeds.get('killed', 0)} kills in {outcome.seconds:.0f} s; "
        f"paid twice: {paid.twice}, paid and lost: {paid.lost}"
    )
    for complaint in outcome.complaints:
        say("WRONG:", complaint)


def everything(chosen: argparse.Namespace) -> bool:
    """Run the sweep on both databases, a storm without costs, and a wild one."""
    good = True
    for kind in ("sqlite", "postgresql"):
        good &= sweep(argparse.Namespace(**{**vars(chosen), "database": kind}))
    for terms, wild, kind in ((EXACT, False, "postgresql"), (WILD, True, "sqlite")):
        given = {**vars(chosen), **terms, "wild": wild, "database": kind, "one": False}
        good &= storm(argparse.Namespace(**given))
    return good & mutations.run(say)


def main() -> int:
    """Read the command line and run."""
    runs: dict[str, Callable[[argparse.Namespace], bool]] = {
        "all": everything,
        "sweep": sweep,
        "storm": storm,
        "mutations": lambda chosen: mutations.run(say, only=chosen.only),
    }
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("what", choices=runs)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument(
        "--only", default="", help="crash points and mutations that have this text"
    )
    parser.add_argument("--first", type=int, default=1, help="the crash point to begin with")
    parser.add_argument(
        "--together", type=int, default=1, help="crash points in one service, one after the other"
    )
    parser.add_argument("--jobs", type=int, default=EXACT["jobs"])
    parser.add_argument("--kills", type=int, default=EXACT["kills"])
    parser.add_argument("--minutes", type=float, default=EXACT["minutes"])
    parser.add_argument("--wild", action="store_true", help="predictions fail, callers cancel")
    parser.add_argument("--one", action="store_true", help="one process, not an API and workers")
    parser.add_argument("--provider", choices=HOSTS, default="replicate", help="of storms")
    parser.add_argument("--dispatch", choices=dispatchers(), default="embedded", help="of storms")
    parser.add_argument("--polling", action="store_true", help="the provider sends no callbacks")
    parser.add_argument("--signed", action="store_true", help="outputs are signed with C2PA")
    parser.add_argument(
        "--thumbnails", action="store_true", help="small pictures are made at once"
    )
    chosen = parser.parse_args()
    given = " ".join(sys.argv[1:])
    seeded = given if "--seed" in given else f"{given} --seed {chosen.seed}"
    again = f"repeat with: make chaos CHAOS='{seeded}'"
    say(again)
    good = runs[chosen.what](chosen)
    say("all is well" if good else "something is wrong", f"(seed {chosen.seed}; {again})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
