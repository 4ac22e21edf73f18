"""What one interface costs: time through `xc.attribute` over the direct call of the library underneath.

    python benchmarks/speed/adapters.py [--method NAME ...]

Both sides do the same work: find the predicted class, take the same steps or samples in the same batches, and measure
the completeness where it is promised. Before timing, both results are compared where the definitions agree. LIME and
KernelSHAP are our own engines: the other side is their floor, the forward passes of as many images alone. So is CAM:
the other side is a forward hook and one einsum. The controls have no library underneath and are left out.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from _timing import Ratio, interleaved
from torch import Tensor, nn

import xaicompare as xc
import xaicompare.methods  # first: it makes torchvision importable where its own library is missing

# isort: split
import captum.attr as ca
import zennit.attribution
import zennit.composites

warnings.filterwarnings("ignore", message=r"\s*Setting (forward, )?backward hooks")
warnings.filterwarnings("ignore", message="Input Tensor 0 did not already require gradients")

STEPS, SAMPLES, MASKS, BASELINES, BATCH = 16, 16, 200, 4, 64
Call = Callable[[], Tensor | None]


class Case(NamedTuple):
    """A network and inputs (n, c, h, w)."""

    name: str
    model: nn.Module
    inputs: Tensor

    def predicted(self) -> Tensor:
        """What everybody does first."""
        with torch.no_grad():
            return self.model(self.inputs).argmax(1)

    def leaf(self) -> Tensor:
        """Inputs that a gradient can be asked of."""
        return self.inputs.clone().requires_grad_()


def cases() -> Iterator[Case]:
    """A small one, where overhead shows, and one of the usual size."""
    draws = torch.Generator().manual_seed(0)
    yield Case(
        "small_cnn 32 x 32, batch 16", xc.build_model("small_cnn", 10, 1), torch.randn(16, 1, 32, 32, generator=draws)
    )
    net = xc.build_model("squeezenet1_1", 1000, 3)
    for module in net.modules():  # in place, Captum's hooks fail
        if isinstance(module, nn.ReLU):
            module.inplace = False
    yield Case("squeezenet1_1 224 x 224, batch 4", net, torch.randn(4, 3, 224, 224, generator=draws))


def pairs(case: Case) -> dict[str, tuple[xc.Method, Call, bool]]:
    """By method: ours, the direct call, and whether both must agree."""
    model, x = case.model, case.inputs
    baselines = torch.randn(BASELINES, *x.shape[1:], generator=torch.Generator().manual_seed(1))
    window = x.shape[-1] // 4

    def captum(algorithm: type, **options: object) -> Call:
        return lambda: algorithm(model).attribute(case.leaf(), target=case.predicted(), **options)

    def checked(algorithm: type, *given: object, **options: object) -> Call:
        """With the convergence delta, which ours measures too."""
        return lambda: algorithm(model).attribute(
            x, *given, target=case.predicted(), return_convergence_delta=True, **options
        )[0]

    def smoothgrad() -> Tensor:
        return ca.NoiseTunnel(ca.Saliency(model)).attribute(
            x,
            nt_samples=SAMPLES,
            nt_samples_batch_size=BATCH // len(x),
            stdevs=0.15,
            target=case.predicted(),
            abs=False,
        )

    def occlusion() -> Tensor:
        shape, strides = (x.shape[1], window, window), (x.shape[1], window // 2, window // 2)
        with torch.no_grad():
            found = ca.Occlusion(model).attribute(
                x, shape, strides, 0, case.predicted(), perturbations_per_eval=BATCH // len(x)
            )
        return found[:, :1]

    def gradcam(layer: str) -> Tensor:
        cam = ca.LayerGradCam(model, model.get_submodule(layer)).attribute(x, case.predicted(), relu_attributions=True)
        return nn.functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)

    def guided_gradcam(layer: str) -> Tensor:
        return ca.GuidedGradCam(model, model.get_submodule(layer)).attribute(
            x, case.predicted(), interpolate_mode="bilinear"
        )

    def lrp() -> Tensor:
        composite = zennit.composites.EpsilonPlusFlat()
        with zennit.attribution.Gradient(model, composite) as attributor:
            with torch.no_grad():
                logits = model(x)
            start = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), logits.amax(1, keepdim=True))
            return attributor(x, start)[1]

    def forwards(count: int) -> Call:
        batch = x[:1].expand(BATCH, -1, -1, -1).contiguous()

        def passes() -> None:
            case.predicted()
            with torch.no_grad():
                for _ in range(len(x)):
                    for start in range(0, count, BATCH):
                        model(batch[: min(BATCH, count - start)])

        return passes

    last = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)][-1]
    return {
        "saliency": (xc.Saliency(), captum(ca.Saliency), True),
        "input_x_gradient": (xc.InputXGradient(), captum(ca.InputXGradient), True),
        "smoothgrad": (xc.SmoothGrad(n_samples=SAMPLES), smoothgrad, False),
        "integrated_gradients": (
            xc.IntegratedGradients(n_steps=STEPS),
            checked(ca.IntegratedGradients, n_steps=STEPS, internal_batch_size=BATCH),
            True,
        ),
        "deconvnet": (xc.DeconvNet(), captum(ca.Deconvolution), True),
        "guided_backprop": (xc.GuidedBackprop(), captum(ca.GuidedBackprop), True),
        "gradcam": (xc.GradCAM(layer=last), lambda: gradcam(last), True),
        "guided_gradcam": (xc.GuidedGradCAM(layer=last), lambda: guided_gradcam(last), True),
        "deeplift": (xc.DeepLIFT(), checked(ca.DeepLift), False),
        "deepshap": (xc.DeepSHAP(baselines=baselines), checked(ca.DeepLiftShap, baselines), False),
        "gradient_shap": (
            xc.GradientSHAP(baselines=baselines, n_samples=SAMPLES),
            captum(ca.GradientShap, baselines=baselines, n_samples=SAMPLES, stdevs=0.0),
            False,
        ),
        "occlusion": (xc.Occlusion(window=window), occlusion, True),
        "lrp": (xc.LRP(composite="epsilon-plus-flat"), lrp, True),
        "lime (floor)": (xc.LIME(n_samples=MASKS, alpha=1e-6), forwards(MASKS), False),
        "kernelshap (floor)": (xc.KernelSHAP(n_samples=MASKS), forwards(MASKS + 2), False),
    }


def measured(case: Case, method: xc.Method, direct: Call, agrees: bool) -> Ratio:
    """The ratio of one method, after a look at both results."""
    if agrees:
        torch.testing.assert_close(method.attribute(case.model, case.inputs).values, direct(), rtol=1e-3, atol=1e-5)
    return interleaved(lambda: method.attribute(case.model, case.inputs), direct)


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", help="only this one; may be given more than once")
    chosen = parser.parse_args().method
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; median (quartiles) of A B A B in one process")
    for case in cases():
        print(f"\n{case.name}\n{'method':<22}{'xaicompare / direct':<26}direct")
        for name, (method, direct, agrees) in pairs(case).items():
            if not chosen or method.name in chosen:
                ratio = measured(case, method, direct, agrees)
                print(f"{name:<22}{ratio!s:<26}{ratio.seconds_b * 1e3:8.1f} ms", flush=True)


if __name__ == "__main__":
    main()
