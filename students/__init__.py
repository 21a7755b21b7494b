"""Students: networks small enough to run anywhere. `STUDENTS` maps each name to its builder."""

from students.microexpnet import CANDIDATES, MicroExpNet, MicroExpNet2017

STUDENTS = {"microexpnet": MicroExpNet, "microexpnet_2017": MicroExpNet2017, **CANDIDATES}
