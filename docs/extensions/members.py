"""Members of classes in the reference: those that this package has written, for its users."""

INTERNAL = {"Guard": {"step", "step_on_device"}}  # what the steps call


def skip(app, what, name, obj, skip, options):
    written = obj.fget if isinstance(obj, property) else getattr(obj, "__func__", obj)
    module = getattr(written, "__module__", None)
    if module is not None and not module.startswith("nagd_numba"):
        return True
    owner = getattr(written, "__qualname__", "").rpartition(".")[0]
    return True if name in INTERNAL.get(owner, ()) else None


def setup(app):
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
