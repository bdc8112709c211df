"""The names and colours of drawn scenes.

Every two object colours, and every object colour and ground, are at least 80 of 255 apart (Euclidean, RGB), so that a
pixel's nearest colour tells what is drawn there.
"""

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 32, 44),
    "orange": (246, 128, 18),
    "yellow": (252, 224, 48),
    "green": (34, 158, 70),
    "cyan": (48, 206, 226),
    "blue": (36, 72, 220),
    "purple": (134, 42, 180),
    "pink": (255, 120, 196),
}
SHAPES = ("circle", "square", "triangle")

GROUNDS: dict[str, tuple[Colour, Colour]] = {
    "grey": ((188, 190, 192), (132, 134, 136)),
    "sand": ((222, 206, 178), (166, 150, 122)),
    "slate": ((120, 132, 148), (64, 76, 92)),
    "olive": ((148, 152, 120), (92, 96, 64)),
}
"""Muted, each in two tones; a plain ground has the first."""
TEXTURES = ("plain", "striped", "dotted", "checkered")

PAIRS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""The classes of drawn scenes."""
