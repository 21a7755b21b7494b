"""Teachers: large networks whose logits the students learn from. `TEACHERS` maps each name to its builder."""

from teachers.dexpression import DeXpression
from teachers.facenet import FaceNet
from teachers.plain_resnet import PlainResNet, PlainResNetTiny

TEACHERS = {
    "facenet": FaceNet,
    "dexpression": DeXpression,
    "plain_resnet": PlainResNet,
    "plain_resnet_tiny": PlainResNetTiny,
}
