"""Images: files that Pillow reads, as grey or in colours, as a viewer shows them."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = {
    "PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "BMP": (".bmp",), "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm"), "TIFF": (".tif", ".tiff"), "WEBP": (".webp",),
}  # fmt: skip
"""That are read, with the endings of their names."""
LARGEST = 10_000
"""Pixels of a side."""
DEEPEST = 2**16 - 1
"""What white is in 16 bits."""


def read(
    data: bytes, formats: tuple[str, ...], *, colour: bool = False, largest: int = LARGEST,
    square: bool = False,
) -> Image.Image:  # fmt: skip
    """Grey (mode L) or colours (RGB) in 8 bits, on white paper where it is transparent, turned as
    its EXIF data say. Raises ValueError, which says what is wrong with the image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF data and the like
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=formats) as image:
                wrong = square and image.width != image.height
                if wrong or max(image.size) > largest:
                    kind = "a square" if square else "an image"
                    raise ValueError(
                        f"{image.width} × {image.height} pixels; {kind} of at most {largest} is "
                        "wanted"
                    )
                if getattr(image, "n_frames", 1) > 1:
                    raise ValueError("is animated")
                return _flat(ImageOps.exif_transpose(image)).convert("RGB" if colour else "L")
    except ValueError:
        raise
    except UnidentifiedImageError:
        kind = f"no {formats[0]} image" if len(formats) == 1 else "no image"
        raise ValueError(f"cannot be read ({kind})") from None
    except Exception as error:  # whatever an image that is damaged makes Pillow raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot be read ({reason})") from None


def _flat(image: Image.Image) -> Image.Image:
    """In 8 bits, without transparency. Raises ValueError."""
    if image.mode == "F":
        raise ValueError("has floating-point values, of which nobody knows what is white")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        if image.has_transparency_data:
            raise ValueError("16 bits with a transparent colour are not supported")
        values = np.asarray(image, np.float64)
        if values.min() < 0 or values.max() > DEEPEST:
            raise ValueError("has values of more than 16 bits, of which nobody knows what is white")
        return Image.fromarray((values / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, colours)
    return image
