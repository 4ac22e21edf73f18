import subprocess
import sys


def test_torchvision_can_be_imported_after_xaicompare() -> None:
    code = "import sys, xaicompare; assert 'torch' not in sys.modules; import torchvision; torchvision.models.resnet18"
    subprocess.run([sys.executable, "-c", code], check=True)
