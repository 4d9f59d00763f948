"""JAX's door: NumPy's arrays, handed over by DLPack, which copies nothing where alignment allows it."""

import jax
import jax.numpy as jnp

from cachefs.errors import ConfigError
from cachefs.sdk.numpy import Array, NumpyFramework, check_cpu

_WIDE = ("F64", "I64", "U64")


class JaxFramework(NumpyFramework):
    """Implements :class:`cachefs.sdk.frameworks.Framework`."""

    def view(self, memory: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
        """Refuse what JAX would narrow without a word."""
        if dtype in _WIDE and not jax.config.jax_enable_x64:
            raise ConfigError(
                f"JAX would make 32 bits of {dtype}",
                hint='jax.config.update("jax_enable_x64", True)',
            )
        return super().view(memory, dtype, shape)

    def finish(self, tensor: Array) -> jax.Array:
        """Return it as JAX's; types that NumPy's DLPack does not know are copied."""
        try:
            return jnp.from_dlpack(tensor)
        except (TypeError, ValueError, RuntimeError, BufferError):
            return jnp.asarray(tensor)

    def copier(self, device: str) -> None:
        """Leave the way to a device to ``jax.device_put``."""
        check_cpu(device, "jax")


FRAMEWORK = JaxFramework()
