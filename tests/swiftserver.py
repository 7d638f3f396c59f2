"""OpenStack Swift with its S3 API, in one process: ``python swiftserver.py FOLDER PORT [--detach]``.

It serves the files in the folder until it is stopped, or until the lock on ``owner``, in the
folder or above it, is released. `s3server` starts it; it imports little, so that it starts
fast.
"""

import fcntl
import os
import pwd
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

REGION: Final = "us-east-1"
PARTS: Final = ("account", "container", "object")
FILTERS: Final = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "slo", "dlo")
PIPELINE: Final = (
    "catch_errors gatekeeper listing_formats s3api tempauth bulk slo dlo proxy-server"
)


def _configure(folder: Path, ports: Mapping[str, int]) -> None:
    from swift.common.ring import RingBuilder  # type: ignore[import-untyped] # noqa: PLC0415 - heavy

    (folder / "node/d1").mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = t\nswift_hash_path_prefix = t\n"
        "[storage-policy:0]\nname = p0\ndefault = yes\n"
    )
    head = (
        f"[DEFAULT]\nuser={pwd.getpwuid(os.geteuid()).pw_name}\nswift_dir={folder}\n"
        f"log_level=ERROR\ndevices={folder}/node\nmount_check=false\n"
    )
    for part in PARTS:
        ring = RingBuilder(4, 1, 0)
        place = {"ip": "127.0.0.1", "port": ports[part]}
        place |= {f"replication_{name}": value for name, value in place.items()}
        device = {"id": 0, "region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": ""}
        ring.add_dev(device | place)
        ring.rebalance()
        ring.get_ring().save(str(folder / f"{part}.ring.gz"))
        (folder / f"{part}.conf").write_text(
            f"{head}[pipeline:main]\npipeline={part}-server\n"
            f"[app:{part}-server]\nuse=egg:swift#{part}\n"
        )
    filters = "".join(f"[filter:{name}]\nuse=egg:swift#{name}\n" for name in FILTERS)
    (folder / "proxy.conf").write_text(
        f"{head}[pipeline:main]\npipeline={PIPELINE}\n[app:proxy-server]\nuse=egg:swift#proxy\n"
        f"account_autocreate=true\nallow_account_management=true\n{filters}"
        f"[filter:s3api]\nuse=egg:swift#s3api\nlocation={REGION}\n"
        "[filter:tempauth]\nuse=egg:swift#tempauth\nuser_test_tester=testing .admin\n"
    )


def _serve(folder: Path, port: int) -> None:
    """Serve all parts of Swift in this process."""
    import eventlet  # type: ignore[import-untyped] # noqa: PLC0415 - heavy

    eventlet.patcher.monkey_patch(all=False, socket=True, select=True, thread=True)
    import eventlet.wsgi  # type: ignore[import-untyped] # noqa: PLC0415
    from swift.common import storage_policy, utils  # type: ignore[import-untyped] # noqa: PLC0415
    from swift.common.utils import config  # type: ignore[import-untyped] # noqa: PLC0415
    from swift.common.wsgi import loadapp  # type: ignore[import-untyped] # noqa: PLC0415

    sockets = {part: eventlet.listen(("127.0.0.1", 0)) for part in PARTS}
    _configure(folder, {part: one.getsockname()[1] for part, one in sockets.items()})
    utils.SWIFT_CONF_FILE = config.SWIFT_CONF_FILE = str(folder / "swift.conf")
    storage_policy.reload_storage_policies()
    sockets["proxy"] = eventlet.listen(("127.0.0.1", port))
    serving = [
        eventlet.spawn(_answer, eventlet.wsgi.server, one, loadapp(str(folder / f"{part}.conf")))
        for part, one in sockets.items()
    ]
    for one in serving:
        one.wait()


def _answer(server: Any, listener: Any, application: Any) -> None:
    server(listener, application, log_output=False, debug=False)


def _end_with(owner: Path) -> None:
    """End this process when the lock on `owner` is released."""
    with owner.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    signal.raise_signal(signal.SIGKILL)


def _main() -> None:
    folder, port = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    if "--detach" in sys.argv and os.fork():
        os._exit(0)
    owner = next(
        (one for one in (folder / "owner", folder.parent / "owner") if one.exists()), None
    )
    if owner is not None:
        threading.Thread(target=_end_with, args=(owner,), daemon=True).start()
    _serve(folder, port)


if __name__ == "__main__":
    _main()
