"""How people write the methods' names, and what else they call them."""

TITLES = {
    "saliency": "Saliency",
    "input_x_gradient": "Input × Gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated Gradients",
    "deconvnet": "Deconvnet",
    "guided_backprop": "Guided Backprop",
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "guided_gradcam": "Guided Grad-CAM",
    "gradcam_plus_plus": "Grad-CAM++",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "xgradcam": "XGrad-CAM",
    "eigencam": "Eigen-CAM",
    "scorecam": "Score-CAM",
    "ablationcam": "Ablation-CAM",
    "fullgrad": "FullGrad",
    "deeplift": "DeepLIFT",
    "deepshap": "DeepSHAP",
    "gradient_shap": "GradientSHAP",
    "lime": "LIME",
    "kernelshap": "KernelSHAP",
    "occlusion": "Occlusion",
    "lrp": "LRP",
    "attention": "Attention",
    "extended_lrp": "Extended LRP",
    "attention_refined_lrp": "Attention-refined LRP",
    "attention_rollout": "Attention Rollout",
    "gradient_rollout": "Gradient Rollout",
}
"""By registered name. Controls keep their names: tables know them by those."""

ALSO = {
    "saliency": ("gradient", "vanilla gradient", "sensitivity map"),
    "input_x_gradient": ("gradient x input", "grad x input"),
    "smoothgrad": ("noise tunnel",),
    "integrated_gradients": ("IG", "path integrated gradients"),
    "deconvnet": ("deconvolution",),
    "guided_backprop": ("GBP", "guided backpropagation"),
    "cam": ("class activation map",),
    "guided_gradcam": ("GGCAM",),
    "deeplift": ("rescale rule",),
    "deepshap": ("DeepLiftShap", "DeepExplainer"),
    "gradient_shap": ("expected gradients",),
    "kernelshap": ("SHAP", "Shapley values", "KernelExplainer"),
    "occlusion": ("sliding window",),
    "lrp": ("layer-wise relevance propagation", "deep Taylor", "AttnLRP"),
    "attention_rollout": ("rollout",),
    "gradient_rollout": ("transformer attribution",),
}
"""Other names of methods in papers and libraries, by registered name."""


def called(name: str) -> str | None:
    """The registered name of the method that people write so, whatever the case, spaces and hyphens.

    >>> called("Grad-CAM++"), called("ig"), called("Gradient x Input"), called("mine")
    ('gradcam_plus_plus', 'integrated_gradients', 'input_x_gradient', None)
    """
    known = {_bare(title): registered for registered, title in TITLES.items()}
    known |= {_bare(other): registered for registered, others in ALSO.items() for other in others}
    return known.get(_bare(name))


def _bare(name: str) -> str:
    return "".join(letter for letter in name.lower().replace("×", "x") if letter.isalnum() or letter == "+")


def titled(label: str, name: str) -> str:
    """A study's label with the title of its method in place of the method's name; other labels as they are.

    >>> titled("integrated_gradients", "integrated_gradients"), titled("lrp(composite=epsilon)", "lrp")
    ('Integrated Gradients', 'LRP epsilon')
    >>> titled("lrp-epsilon-plus", "lrp"), titled("smoothgrad(n_samples=5)", "smoothgrad"), titled("mine", "lrp")
    ('LRP epsilon-plus', 'SmoothGrad (n_samples=5)', 'mine')
    """
    rest = label.removeprefix(name)
    if name not in TITLES or rest == label or rest[:1].isalnum():
        return label
    if rest.startswith("(composite=") and rest.count("=") == 1:
        rest = f" {rest[len('(composite=') : -1]}"
    separator = "" if not rest or rest[0] in ", " else " "
    return f"{TITLES[name]}{separator}{rest.lstrip('-_')}"


def titles(names: dict[str, str]) -> dict[str, str]:
    """The titles of a study's labels, given with their methods' names; where two would be the same, the labels.

    >>> titles({"lrp-flat": "lrp", "lrp_flat": "lrp", "cam": "cam"})
    {'lrp-flat': 'lrp-flat', 'lrp_flat': 'lrp_flat', 'cam': 'CAM'}
    """
    found = {label: titled(label, name) for label, name in names.items()}
    given = list(found.values())
    return {label: title if given.count(title) == 1 else label for label, title in found.items()}
