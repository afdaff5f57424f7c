"""Opening a model's file where it is to run."""

from serving.engine import devices
from serving.engine.device_session import DeviceSession
from serving.engine.session import OrtSession
from serving.engine.stepping import StepSession
from serving.graph_picking import picking_graph
from serving.placement import CPU, Placement


def require(device: str) -> None:
    """Raise NoDevice unless graphs run on a device, as seen by loading one there."""
    if device != CPU:
        devices.check_packages(device)
        devices.open_graph(picking_graph([((1,), "float32")]), device, devices.device_options())


def open_session(model: bytes, placement: Placement) -> StepSession:
    """A session of a model's file; raises BadModel or NoDevice."""
    if placement.device == CPU:
        return OrtSession(model, placement.threads)
    return DeviceSession(model, placement)
