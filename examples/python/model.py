# SPDX-License-Identifier: Apache-2.0
"""A small transformer encoder that makes one vector of each text.

Its weights are random, from a fixed seed: it computes what a trained model of this size computes, and the vectors mean
nothing. One thread, so that the same batch gives the same bits whoever brought it.
"""
import torch

SEED = 20240229
DIMENSIONS, HEADS, LAYERS, INNER = 64, 4, 2, 256


class Encoder(torch.nn.Module):
    def __init__(self, vocabulary, seq):
        super().__init__()
        torch.manual_seed(SEED)
        self.tokens = torch.nn.Embedding(vocabulary, DIMENSIONS)
        self.places = torch.nn.Parameter(torch.randn(seq, DIMENSIONS))
        layer = torch.nn.TransformerEncoderLayer(DIMENSIONS, HEADS, INNER, dropout=0, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, ids, lengths):
        """int32 [rows, seq] and int32 [rows] to float32 [rows, DIMENSIONS]: the mean over each text's tokens."""
        padding = torch.arange(ids.shape[1]) >= lengths[:, None]
        hidden = self.layers(self.tokens(ids) + self.places, src_key_padding_mask=padding)
        hidden = hidden.masked_fill(padding[..., None], 0)
        return hidden.sum(dim=1) / lengths[:, None]


class Model:
    def __init__(self, vocabulary, seq):
        torch.set_num_threads(1)
        self._encoder = Encoder(vocabulary, seq).eval()

    def parameters(self):
        return sum(parameter.numel() for parameter in self._encoder.parameters())

    @staticmethod
    def tensor(array):
        """The same memory as a tensor."""
        return torch.from_dlpack(array)

    def embed(self, ids, lengths):
        """Tensors in, a new numpy array out."""
        with torch.inference_mode():
            return self._encoder(ids, lengths).numpy()
