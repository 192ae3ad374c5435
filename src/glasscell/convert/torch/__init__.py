"""PyTorch's own files, read and written without PyTorch, and models made from the weights in them."""

from glasscell.convert.torch.files import read, state_dict, write
from glasscell.convert.torch.state_dicts import Take, model_of

__all__ = ["Take", "model_of", "read", "state_dict", "write"]
