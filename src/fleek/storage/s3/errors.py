"""Translation of the library's errors, with advice for the operator.

The library's messages may contain the access key and a signature: only the status and the code are
read from them, and the rest is dropped.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from obstore.exceptions import BaseError

from fleek.domain.errors import NotFound, StorageError, StorageFull
from fleek.domain.host_errors import host_errors, reported

CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
STATUS: Final = re.compile(r"status code: (\d{3})")
ROLE: Final = re.compile(r"/latest/(?:api/token|meta-data)|Credentials|no credentials")
UNTRUSTED: Final = re.compile(r"certificate|TLS|handshake", re.IGNORECASE)


class S3Refused(StorageError):
    """The storage refuses access: a setting is wrong, and the operator must act."""


class S3KeysRefused(S3Refused):
    """The storage refuses the keys."""


class S3RightsMissing(S3Refused):
    """The storage accepts the keys, but they lack permissions."""


class S3BucketMissing(S3Refused):
    """The storage has no such bucket."""


class S3RegionWrong(S3Refused):
    """The bucket is in another region than configured."""


class S3ClockWrong(StorageError):
    """The storage refuses requests because this machine's clock is wrong."""


class S3Unreachable(StorageError):
    """The storage cannot be reached, or does not respond in time."""


Reason = tuple[type[StorageError], str]

KEYS: Final = "check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY"
ACCESS: Final[Reason] = (
    S3RightsMissing,
    "access is denied; allow these keys to put, get, delete and list objects of the bucket",
)
BUCKET: Final[Reason] = (S3BucketMissing, "there is no such bucket; create it, or check S3_BUCKET")
REGION: Final[Reason] = (S3RegionWrong, "the bucket is in another region; check S3_REGION")
TOKEN: Final[Reason] = (S3KeysRefused, "the session token has expired or is wrong; get a new one")
FULL: Final[Reason] = (StorageFull, "there is no free space; free some or raise the quota")
BROKEN: Final[Reason] = (StorageError, "the bytes were corrupted in transit")
BUSY: Final[Reason] = (StorageError, "it limits the rate of requests, or is unavailable")

BY_CODE: Final[Mapping[str, Reason]] = {
    "InvalidAccessKeyId": (S3KeysRefused, f"the access key is unknown; {KEYS}"),
    "SignatureDoesNotMatch": (S3KeysRefused, f"the keys are not accepted; {KEYS}"),
    "Unauthorized": (S3KeysRefused, f"the keys are not accepted; {KEYS}"),
    "ExpiredToken": TOKEN,
    "InvalidToken": TOKEN,
    "AccessDenied": ACCESS,
    "AllAccessDisabled": ACCESS,
    "NoSuchBucket": BUCKET,
    "InvalidBucketName": BUCKET,
    "PermanentRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "RequestTimeTooSkewed": (
        S3ClockWrong,
        "the clock of this machine is wrong by minutes; set it, or let NTP do it",
    ),
    "XAmzContentSHA256Mismatch": BROKEN,
    "BadDigest": BROKEN,
    "IncompleteBody": BROKEN,
    "QuotaExceeded": FULL,
    "XMinioStorageFull": FULL,
    "XMinioAdminBucketQuotaExceeded": FULL,
    "SlowDown": BUSY,
    "ServiceUnavailable": BUSY,
    "InternalError": BUSY,
}
BY_STATUS: Final[Mapping[int, Reason]] = {  # responses to HEAD have no code
    301: REGION,
    401: (S3KeysRefused, f"the keys are not accepted; {KEYS}"),
    403: (S3Refused, f"access is denied; {KEYS}, and their permissions"),
    429: BUSY,
    500: BUSY,
    502: BUSY,
    503: BUSY,
    504: BUSY,
    507: FULL,
}


@contextmanager
def translated(doing: str) -> Generator[None]:
    """Translate errors of the library.

    Args:
        doing: For the message, after "cannot".

    Raises:
        NotFound: There is no such file in the bucket.
        StorageFull: There is no free space.
        ResourcesExhausted: This process has no descriptors or memory left.
        StorageError: Any other error; an `S3Refused` if the operator must act.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of a local file
            with host_errors(doing):
                raise
        exhausted = reported(str(error))
        if exhausted is not None:
            raise exhausted from None  # the cause contains the access key
        known = _reason(str(error))
        if known is None:
            raise NotFound("there is no such file") from None  # as above
        kind, reason = known
        raise kind(f"cannot {doing}: {reason}") from None  # as above


def beyond_the_end(error: BaseError) -> bool:
    """Whether the requested range begins at or after the end of the file."""
    code = CODE.search(str(error))
    return code is not None and code[1] == "InvalidRange"


def _reason(message: str) -> Reason | None:
    """Return the class and the message; None if there is no such file."""
    code, status = CODE.search(message), STATUS.search(message)
    if code is not None and code[1] in BY_CODE:
        return BY_CODE[code[1]]
    if status is None:
        return _unanswered(message)
    number = int(status[1])
    if number == 404:
        return None
    known = BY_STATUS.get(number)
    answer = f"{number} {code[1]}" if code else str(number)
    return known or (
        StorageError,
        f"it responded with {answer}; check S3_ENDPOINT_URL and S3_REGION",
    )


def _unanswered(message: str) -> Reason:
    if ROLE.search(message):
        return S3KeysRefused, (
            "there are no keys: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give this "
            "machine a role"
        )
    if UNTRUSTED.search(message):
        return S3Unreachable, "its certificate is not trusted here; check S3_ENDPOINT_URL"
    return (
        S3Unreachable,
        "it cannot be reached; check S3_ENDPOINT_URL, and that the service is running",
    )
