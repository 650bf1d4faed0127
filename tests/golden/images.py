"""Small image files and what Pillow reads from them: python tests/golden/images.py

Every file shows 24 rows of 16 pixels once it is turned as its EXIF data says. `rgb.npy` and `grey.npy` hold what Pillow
makes of the files, in the order of their names; `resized_*.npy` what it makes of `large.png`.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, __version__

HEIGHT, WIDTH = 24, 16
directory = Path(__file__).parents[2] / "crates/data/tests/images"


def picture(height, width, seed=0):
    """Something like a photograph: smooth colours, edges and a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / a + y / b + c) for a, b, c in [(3.0, 5.0, 0), (7.0, 2.5, 1), (4.0, -6.0, 2)]]
    values = 128 + 80 * np.stack(waves, -1) + 40 * ((x // 6 + y // 8) % 2)[..., None]
    return (values + random.normal(0, 4, values.shape)).clip(0, 255).astype(np.uint8)


def save(name, image, **options):
    image.save(directory / name, **options)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010F] = "a camera"
    return data


def turned(orientation, image):
    """The image that shows as `image` under that orientation."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(undo[orientation]) if orientation in undo else image


def main():
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    rgb = Image.fromarray(picture(HEIGHT, WIDTH))
    grey = rgb.convert("L")
    alpha = Image.fromarray(picture(HEIGHT, WIDTH, 1)[..., 0])
    rgba = rgb.copy()
    rgba.putalpha(alpha)

    save("rgb.png", rgb)
    save("rgba.png", rgba)
    save("grey.png", grey)
    save("grey_alpha.png", Image.merge("LA", [grey, alpha]))
    save("palette.png", rgb.quantize(64))
    save("palette_4_bits.png", rgb.quantize(11), bits=4)
    save("one_bit.png", grey.convert("1"))

    save("lossless.webp", rgb, lossless=True)
    save("lossless_alpha.webp", rgba, lossless=True, exact=True)

    save("jpeg_444.jpg", rgb, quality=92, subsampling="4:4:4")
    save("jpeg_422.jpg", rgb, quality=85, subsampling="4:2:2")
    save("jpeg_420.jpg", rgb, quality=80, subsampling="4:2:0")
    save("jpeg_grey.jpg", grey, quality=90)
    save("jpeg_progressive.jpg", rgb, quality=85, progressive=True)
    save("jpeg_restarts.jpg", rgb, quality=85, restart_marker_blocks=1)

    for orientation in range(1, 9):
        image = turned(orientation, rgb)
        save(f"turned_{orientation}.jpg", image, quality=90, subsampling="4:4:4", exif=exif(orientation))
    save("turned_6.png", turned(6, rgb), exif=exif(6))
    save("turned_8.webp", turned(8, rgb), lossless=True, exif=exif(8))
    named = rgb.copy()  # a WebP whose name says something else
    buffer = io.BytesIO()
    named.save(buffer, "WEBP", lossless=True)
    (directory / "webp_named.png").write_bytes(buffer.getvalue())

    files = sorted(path for path in directory.iterdir())
    opened = [ImageOps.exif_transpose(Image.open(path)) for path in files]
    np.save(directory / "rgb.npy", np.stack([np.asarray(image.convert("RGB")) for image in opened]))
    np.save(directory / "grey.npy", np.stack([np.asarray(image.convert("RGB").convert("L")) for image in opened]))

    large = Image.fromarray(picture(61, 90, 2))
    large.save(directory / "large.png")
    for name, size in [("32x32", (32, 32)), ("20x45", (45, 20)), ("40x12", (12, 40)), ("70x64", (64, 70))]:
        fitted = ImageOps.fit(large, size, Image.Resampling.BILINEAR)
        np.save(directory / f"resized_crop_{name}.npy", np.asarray(fitted))
        np.save(directory / f"resized_stretch_{name}.npy", np.asarray(large.resize(size, Image.Resampling.BILINEAR)))
    print(f"{len(files)} files read by Pillow {__version__}")


main()
