"""Students: networks small enough to run anywhere. `STUDENTS` maps each name to its builder."""

from students.microexpnet import CANDIDATES, MicroExpNet, MicroExpNet2017
from students.slim_mobilenet import SlimMobileNet
from students.slim_resnet import SlimResNet, SlimResNetSmall, SlimResNetWide

STUDENTS = {
    "microexpnet": MicroExpNet,
    "microexpnet_2017": MicroExpNet2017,
    **CANDIDATES,
    "slim_mobilenet": SlimMobileNet,
    "slim_resnet": SlimResNet,
    "slim_resnet_small": SlimResNetSmall,
    "slim_resnet_wide": SlimResNetWide,
}
