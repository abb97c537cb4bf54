"""Scenes of textured shapes, and their rendering: what ``make_sample_data.py`` writes data sets from.

A scene is a background and objects, each with a class, a shape, a texture, a depth and a pose. ``draw_scene`` makes one
up; ``render`` turns it into an image, one mask an object, and a label map. All arithmetic is numpy's in float64 without
anything that processors round differently: the same seed gives the same pixels everywhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Class name: colour (R, G, B) in the label image and in pictures. A class that is not the background is a shape.
CLASSES = {
    'background': (60, 60, 60),
    'circle': (220, 50, 47),
    'square': (38, 139, 210),
    'triangle': (133, 173, 0),
    'star': (255, 200, 0),
    'ring': (211, 54, 180),
    'cross': (42, 190, 175),
    'pole': (250, 250, 250),
}
RARE = 'pole'  # thin, and only in some scenes: what hard-pixel losses are for
UNLABELLED = 255
SUBSAMPLES = 3  # a side, for the soft edges of the image


# Scenes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Texture:
    """Two colours in a pattern that is fixed to its object.

    Attributes:
        pattern: A key of ``PATTERNS``.
        colours: Two times (R, G, B) in [0, 1].
        period: Length of the pattern in pixels.
        angle: Direction of the pattern in radians.
        seed: Seed of patterns with random numbers.
    """

    pattern: str
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    period: float
    angle: float
    seed: int


@dataclass(frozen=True)
class Pose:
    """Place of an object in the image.

    Attributes:
        x: Centre in pixels, to the right.
        y: Centre in pixels, down.
        angle: Turn in radians.
        half_width: Half the shape's width in pixels, before the turn.
        half_height: Half the shape's height in pixels, before the turn.
    """

    x: float
    y: float
    angle: float
    half_width: float
    half_height: float


@dataclass(frozen=True)
class Thing:
    """An object.

    Attributes:
        class_name: What the annotations call it, a key of ``CLASSES``.
        shape: Its outline, a key of ``SHAPES``.
        texture: Its surface.
        depth: Distance; a smaller one hides a larger one.
        pose: Its place.
    """

    class_name: str
    shape: str
    texture: Texture
    depth: float
    pose: Pose


@dataclass(frozen=True)
class Scene:
    """What there is to see.

    Attributes:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        background: Texture behind everything.
        things: The objects, in any order.
        noise_seed: Seed of the camera's noise.
    """

    height: int
    width: int
    background: Texture
    things: tuple[Thing, ...]
    noise_seed: int


def draw_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draws a scene of three to five shapes and sometimes a pole.

    Args:
        rng: Source of every choice.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        The scene.
    """
    unit = min(height, width)
    background = draw_texture(rng, unit, 'background')
    common = [name for name in CLASSES if name not in ('background', RARE)]
    names = [common[rng.integers(len(common))] for _ in range(rng.integers(3, 6))]
    if rng.random() < 0.6:
        names.append(RARE)
    things = []
    for name in names:
        x, y = width * _between(rng, 0.06, 0.94), height * _between(rng, 0.06, 0.94)
        if name == RARE:
            half_width, half_height = unit * _between(rng, 0.02, 0.028), unit * _between(rng, 0.3, 0.45)
            pose = Pose(x, y, _between(rng, -0.15, 0.15), half_width, half_height)
        else:
            half = unit * _between(rng, 0.16, 0.28)
            pose = Pose(x, y, _between(rng, -0.5, 0.5), half, half * _between(rng, 0.85, 1.15))
        # A pole stands in front more often than not, so that some of it is seen.
        depth = rng.random() * (0.4 if name == RARE else 1.0)
        things.append(Thing(name, name, draw_texture(rng, unit, name), depth, pose))
    return Scene(height, width, background, tuple(things), int(rng.integers(2**31)))


def draw_texture(rng: np.random.Generator, unit: float, class_name: str) -> Texture:
    """Draws a texture: dull for the background, around the class's colour for objects, so that a short training learns.

    Args:
        rng: Source of every choice.
        unit: Shorter side of the image in pixels; periods go with it.
        class_name: A key of ``CLASSES``.

    Returns:
        The texture.
    """
    if class_name == 'background':
        patterns, contrast = ('noise', 'stripes'), 0.2
        middle = _between(rng, 0.15, 0.6) + 0.2 * (rng.random(3) - 0.5)
    else:
        patterns, contrast = tuple(PATTERNS), 0.4
        middle = 0.7 * np.array(CLASSES[class_name]) / 255.0 + 0.3 * rng.random(3)
    offset = (rng.random(3) - 0.5) * contrast
    colours = tuple(tuple(np.clip(middle + side * offset, 0.0, 1.0).tolist()) for side in (-1.0, 1.0))
    pattern = patterns[rng.integers(len(patterns))]
    period, angle = unit * _between(rng, 0.06, 0.14), _between(rng, 0.0, 3.1)
    return Texture(pattern, colours, period, angle, int(rng.integers(2**31)))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


# Shapes and patterns --------------------------------------------------------------------------------------------------


def _in_polygon(u: np.ndarray, v: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    inside = np.zeros(u.shape, dtype=bool)
    for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):  # even-odd rule
        crosses = (v0 > v) != (v1 > v)
        inside ^= crosses & (u < (u1 - u0) * (v - v0) / (v1 - v0 if v1 != v0 else 1.0) + u0)
    return inside


def _star_corners() -> list[tuple[float, float]]:
    radii = [1.0, 0.45] * 5
    turns = [_turn(math.pi * (0.2 * i - 0.5)) for i in range(10)]
    return [(radius * cos, radius * sin) for radius, (cos, sin) in zip(radii, turns, strict=True)]


def _turn(angle: float) -> tuple[float, float]:
    return round(math.cos(angle), 6), round(math.sin(angle), 6)  # libraries differ in the last bit


_TRIANGLE = [(0.0, -1.0), (0.95, 0.8), (-0.95, 0.8)]
_STAR = _star_corners()

# Name: whether a point is inside; u right and v down, in [-1, 1] over the shape's width and height.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'circle': lambda u, v: u * u + v * v <= 0.9,
    'square': lambda u, v: np.maximum(abs(u), abs(v)) <= 0.82,
    'triangle': lambda u, v: _in_polygon(u, v, _TRIANGLE),
    'star': lambda u, v: _in_polygon(u, v, _STAR),
    'ring': lambda u, v: (u * u + v * v <= 1.0) & (u * u + v * v >= 0.3),
    'cross': lambda u, v: (np.maximum(abs(u), abs(v)) <= 0.95) & (np.minimum(abs(u), abs(v)) <= 0.3),
    'pole': lambda u, v: np.maximum(abs(u), abs(v)) <= 1.0,
}


def _noise(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    size = 32
    lattice = np.random.default_rng(seed).random((size, size))
    column, row = np.floor(x), np.floor(y)
    s, t = x - column, y - row
    s, t = s * s * (3.0 - 2.0 * s), t * t * (3.0 - 2.0 * t)
    i0, j0 = row.astype(int) % size, column.astype(int) % size
    i1, j1 = (i0 + 1) % size, (j0 + 1) % size
    top = lattice[i0, j0] * (1.0 - s) + lattice[i0, j1] * s
    bottom = lattice[i1, j0] * (1.0 - s) + lattice[i1, j1] * s
    return top * (1.0 - t) + bottom * t


# Name: share of the second colour in [0, 1] at x, y in periods of the pattern.
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    'plain': lambda x, y, seed: np.full(x.shape, 0.5),
    'stripes': lambda x, y, seed: np.clip(4.0 * abs(x - np.floor(x) - 0.5) - 0.5, 0.0, 1.0),
    'checks': lambda x, y, seed: (np.floor(2.0 * x) + np.floor(2.0 * y)) % 2.0,
    'dots': lambda x, y, seed: ((x - np.floor(x) - 0.5) ** 2 + (y - np.floor(y) - 0.5) ** 2 <= 0.09) * 1.0,
    'noise': _noise,
}


# Rendering ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendering:
    """A scene as arrays; H and W are the scene's height and width.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        things: The scene's objects, farthest first.
        masks: Visible part of each object, bool, shape (len(things), H, W); no two overlap.
        unlabelled: Thin ribbon just outside visible outlines, where a label would be a guess, bool, shape (H, W).
        semantic: Index of the class in ``CLASSES``, 255 on the ribbon, uint8, shape (H, W).
    """

    image: np.ndarray
    things: tuple[Thing, ...]
    masks: np.ndarray
    unlabelled: np.ndarray
    semantic: np.ndarray


def render(scene: Scene) -> Rendering:
    """Renders a scene.

    Args:
        scene: The scene.

    Returns:
        Image, masks and labels.
    """
    height, width = scene.height, scene.width
    rows, columns = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing='ij')  # pixel centres
    colour = _colour(scene.background, columns, rows)  # (H, W, 3)
    front = np.zeros((height, width), dtype=int)  # 0: background; i: things[i - 1], counted from the farthest
    things = tuple(sorted(scene.things, key=lambda thing: -thing.depth))
    for number, thing in enumerate(things, start=1):
        coverage = _coverage(thing, height, width)
        dx, dy = columns - thing.pose.x, rows - thing.pose.y
        cos, sin = _turn(thing.pose.angle)
        surface = _colour(thing.texture, cos * dx + sin * dy, cos * dy - sin * dx)
        colour += coverage[..., None] * (surface - colour)
        front[coverage >= 0.5] = number
    noise = np.random.default_rng(scene.noise_seed).random(colour.shape)
    image = np.floor(255.0 * np.clip(colour + 0.08 * (noise - 0.5), 0.0, 1.0) + 0.5).astype(np.uint8)

    masks = front == np.arange(1, len(things) + 1)[:, None, None]
    unlabelled = _nearer_beside(front, radius=max(1, round(min(height, width) / 200)))
    names = list(CLASSES)
    semantic = np.array([0, *(names.index(thing.class_name) for thing in things)], dtype=np.uint8)[front]
    semantic[unlabelled] = UNLABELLED
    return Rendering(image, things, masks, unlabelled, semantic)


def _colour(texture: Texture, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cos, sin = _turn(texture.angle)
    share = PATTERNS[texture.pattern](
        (cos * x + sin * y) / texture.period, (cos * y - sin * x) / texture.period, texture.seed
    )
    first, second = np.array(texture.colours)
    return first + share[..., None] * (second - first)  # (H, W, 3)


def _coverage(thing: Thing, height: int, width: int) -> np.ndarray:
    """Share of each pixel that a shape covers, from points within the pixel, shape (height, width)."""
    steps = [(i + 0.5) / SUBSAMPLES for i in range(SUBSAMPLES)]
    cos, sin = _turn(thing.pose.angle)
    total = np.zeros((height, width))
    for step_y in steps:
        for step_x in steps:
            dx = np.arange(width)[None, :] + step_x - thing.pose.x
            dy = np.arange(height)[:, None] + step_y - thing.pose.y
            u, v = (cos * dx + sin * dy) / thing.pose.half_width, (cos * dy - sin * dx) / thing.pose.half_height
            total += SHAPES[thing.shape](u, v)
    return total / SUBSAMPLES**2


def _nearer_beside(front: np.ndarray, radius: int) -> np.ndarray:
    nearest = front
    for _ in range(radius):
        padded = np.pad(nearest, 1, mode='edge')
        beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        nearest = np.maximum.reduce([nearest, *beside])
    return nearest > front
