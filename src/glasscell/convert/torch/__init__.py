"""PyTorch's own files, read and written without PyTorch, and the weights in them."""

from glasscell.convert.torch.files import read, write
from glasscell.convert.torch.state_dicts import state_dict

__all__ = ["read", "state_dict", "write"]
