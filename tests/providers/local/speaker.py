"""A program with the protocol of a synthesis process: it does what its text says."""

import json
import os
import sys
import time


def say(line: str) -> None:
    """Write a line of the response."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


for line in sys.stdin:
    request = json.loads(line)
    match request["text"]:
        case "silence":
            content = b""
        case "hang":
            say('{"share": 0.5}')
            time.sleep(600)
            content = b""
        case "die":
            os._exit(9)
        case "babble":
            say("no JSON")
            continue
        case "error":
            say('{"error": "ValueError: no"}')
            continue
        case text:
            content = f"RIFF{os.getpid()} {request['seed']} {request['speed']} {text}".encode()
    say(json.dumps({"bytes": len(content)}))
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
