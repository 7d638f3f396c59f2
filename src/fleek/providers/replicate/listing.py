"""Official models worth offering. Any other can be run by its name."""

from typing import Final

from fleek.domain.job import ModelName
from fleek.providers.base import Model

DEFAULT: Final = ModelName("black-forest-labs/flux-schnell")


def _model(name: str, output: str, description: str) -> Model:
    return Model(name=ModelName(name), output=output, description=description)


MODELS: Final = (
    _model(DEFAULT, "image", "Text to image in one to four steps; quick and cheap."),
    _model("black-forest-labs/flux-dev", "image", "Text to image, slower and with more detail."),
    _model("black-forest-labs/flux-1.1-pro", "image", "Text to one image, of high quality."),
    _model("stability-ai/stable-diffusion-3.5-large", "image", "Text to image in many styles."),
    _model("ideogram-ai/ideogram-v3-turbo", "image", "Text to image; writes legible words."),
    _model("google/imagen-4", "image", "Text to image, close to photographs."),
    _model("recraft-ai/recraft-v3", "image", "Text to image, with long texts in the picture."),
    _model("minimax/video-01", "video", "Text, or text and a first picture, to a short film."),
    _model("google/lyria-2", "audio", "Text to music."),
    _model("meta/meta-llama-3-8b-instruct", "text", "A language model: text to text."),
)
