"""What the demo applies: a pool, and a task for each frame."""

FRAMES = 20
FRAME_NAMES = tuple(f"frame-{number:03d}" for number in range(1, FRAMES + 1))
_ZOOM = 0.55  # each frame shows this much of the one before
_POINT = (-0.743643887037151, -0.131825904205330)  # in the Valley of Seahorses, deep into which it is worth looking


def pool(image: str) -> str:
    """Three nodes with ffmpeg 4.2.2 on them."""
    return f"""\
apiVersion: packhorse.dev/v1alpha1
kind: Pool
metadata:
  name: render
spec:
  targetNodes: 3
  image: {image}
  taskSlotsPerNode: 2
  applicationPackageReferences:
  - applicationId: ffmpeg
    version: 4.2.2
  nodeStorage:
    size: 2Gi
"""


def tasks() -> str:
    """A task for each frame: one picture of the Mandelbrot set, each closer to the same point."""
    return "---\n".join(_task(name, 3 * _ZOOM**number) for number, name in enumerate(FRAME_NAMES))


def _task(name: str, scale: float) -> str:
    x, y = _POINT
    source = f"mandelbrot=size=960x540:maxiter=2000:start_x={x:.12f}:start_y={y:.12f}:start_scale={scale:.9f}"
    return f"""\
apiVersion: packhorse.dev/v1alpha1
kind: Task
metadata:
  name: {name}
spec:
  pool: render
  jobId: mandelbrot
  commandLine: >-
    "$AZ_BATCH_APP_PACKAGE_ffmpeg/bin/ffmpeg" -hide_banner -y
    -f lavfi -i {source}
    -frames:v 1 frame.png
"""
