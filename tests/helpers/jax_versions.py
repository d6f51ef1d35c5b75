"""What versions of JAX call differently."""

import jax

enable_x64 = getattr(jax, "enable_x64", None)  # since 0.8
if enable_x64 is None:
    from jax.experimental import enable_x64
