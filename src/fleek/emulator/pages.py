"""Pages about an error that come with status 200 and the type of a picture."""

from collections.abc import Mapping
from typing import Final
from zlib import crc32

PAGES: Final[Mapping[str, bytes]] = {
    name: page.encode()
    for name, page in {
        "html": "<!doctype html><title>Error</title><h1>Something went wrong</h1>",
        "bare": "  <html><body>404</body></html>",
        "comment": "<!-- cache miss --><HTML><body>Service unavailable</body></HTML>",
        "xhtml": '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>502</body></html>',
        "s3": '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        "<Message>The specified key does not exist.</Message></Error>",
        "json": '{"error": "file not found"}',
        "problem": '{"title": "Not Found", "status": 404, "detail": "gone"}',
        "text": "Not Found",
        "sentence": "The requested file could not be found on this server.",
        "german": "Fehler 404: Die angeforderte Datei wurde nicht gefunden.",
        "french": "Erreur interne du serveur. Veuillez réessayer plus tard.",
        "spanish": "Error: no se encontró el archivo solicitado.",
        "chinese": "找不到请求的文件。",
        "japanese": "エラーが発生しました。しばらくしてからもう一度お試しください。",
        "russian": "Ошибка 503: служба временно недоступна.",
        "arabic": "خطأ: الملف غير موجود.",
        "gateway": "upstream connect error or disconnect/reset before headers",
        "bom": "\ufeff<!DOCTYPE html><title>Bad gateway</title>",
    }.items()
}


def page(name: str, seed: str) -> bytes:
    """Give a page by its name; for any other name, one that the seed decides."""
    names = sorted(PAGES)
    return PAGES.get(name) or PAGES[names[crc32(seed.encode()) % len(names)]]
