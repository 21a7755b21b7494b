"""Teachers: large networks whose logits the students learn from. `TEACHERS` maps each name to its builder."""

from teachers.densenet import DenseNet
from teachers.dexpression import DeXpression
from teachers.facenet import FaceNet
from teachers.fer_cnn import FERCNN
from teachers.inception import Inception
from teachers.plain_resnet import PlainResNet, PlainResNetTiny, ResNet10, ResNet18
from teachers.resnet import ResNet
from teachers.vgg import VGG
from teachers.xception import Xception

TEACHERS = {
    "facenet": FaceNet,
    "dexpression": DeXpression,
    "fer_cnn": FERCNN,
    "vgg": VGG,
    "resnet": ResNet,
    "densenet": DenseNet,
    "inception": Inception,
    "xception": Xception,
    "resnet18": ResNet18,
    "resnet10": ResNet10,
    "plain_resnet": PlainResNet,
    "plain_resnet_tiny": PlainResNetTiny,
}
