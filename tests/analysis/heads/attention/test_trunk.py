"""A pass that begins in the middle gives what a whole pass gives, and computes what is before once."""

import pytest
import torch
from torch import nn

from shvit_pl.analysis.heads.attention.ablation import ablations
from shvit_pl.analysis.heads.attention.layers import attention_layers
from shvit_pl.analysis.heads.attention.trunk import Trunk
from shvit_pl.errors import UserError
from tests.analysis.heads.attention.test_ablation import whole_pass
from tests.analysis.heads.networks import deit, images, state, with_layers


class Mixer(nn.Module):
    """Attention over the pixels of a small image."""

    def __init__(self, dim, heads=2):
        super().__init__()
        self.num_heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj((self.softmax(q @ k.mT) @ v).transpose(1, 2).flatten(2))


class Network(nn.Module):
    """Four layers of attention between what subclasses do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 8, 16, 16)
        self.mixers = nn.ModuleList(Mixer(8) for _ in range(4))
        self.norm, self.act, self.same = nn.LayerNorm(8), nn.ReLU(inplace=True), nn.Identity()
        self.head = nn.Linear(8, 7)
        self.eval()

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        for number, mixer in enumerate(self.mixers):
            x = self.between(x, number) + mixer(x)
        return self.head(x.mean(1))

    def between(self, x, number):
        return x


class CalledAgain(Network):
    """One module serves all layers."""

    def between(self, x, number):
        return self.norm(self.norm(x) + number)


class ChangedInPlace(Network):
    """The output of a module is changed by what follows it, before the attention and after it."""

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        for mixer in self.mixers:
            x = self.norm(x)
            x += 1
            mixed = mixer(x)
            x *= 2
            x = x + mixed
        return self.head(x.mean(1))


class ChangedByAModule(Network):
    """Modules change their input, which is used again; one of them puts it out, the other one something else."""

    class Doubled(nn.Module):
        def forward(self, x):
            x *= 2
            return x.mean()

    def __init__(self):
        super().__init__()
        self.doubled = self.Doubled()
        self.eval()

    def between(self, x, number):
        x = self.norm(x)
        self.act(x)
        return x + self.doubled(x)


class PassedThrough(Network):
    """A module puts out its input, which is changed after that, and used under its other name."""

    def between(self, x, number):
        x = self.norm(x)
        again = self.same(x)
        again *= 3
        return x


class SeveralOutputs(Network):
    """Modules that give and take tuples, lists and dictionaries."""

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, pair, *, scale):
            return {"left": self.left(pair[0]) * scale, "right": [self.right(pair[1])]}

    def __init__(self):
        super().__init__()
        self.pair = self.Pair()
        self.eval()

    def between(self, x, number):
        both = self.pair((x, [x][0]), scale=2)
        return both["left"] + both["right"][0]


class MadeInInferenceMode(Network):
    """A tensor that an earlier pass may have left behind is given to modules."""

    class Added(nn.Module):
        def forward(self, x, bias):
            return x + bias

    def __init__(self):
        super().__init__()
        self.added = self.Added()
        with torch.inference_mode():
            self.bias = torch.ones(8)
        self.eval()

    def between(self, x, number):
        return self.added(x, self.bias)


class SharedAttention(Network):
    """The first layer is also the last one."""

    def __init__(self):
        super().__init__()
        self.mixers.append(self.mixers[0])


NETWORKS = [
    Network,
    CalledAgain,
    ChangedInPlace,
    ChangedByAModule,
    PassedThrough,
    SeveralOutputs,
    MadeInInferenceMode,
    SharedAttention,
]


@pytest.mark.parametrize("network", NETWORKS)
def test_passes_from_the_middle_equal_whole_ones(network):
    model, batch = network(), images(64)
    layers = attention_layers(model, batch)
    assert [layer.name for layer in layers] == [f"mixers.{number}" for number in range(4)]
    before = state(model)
    for layer, logits in ablations(model, layers, batch):
        for head in range(2):
            for mode, silent in enumerate((head, 1 - head)):
                assert torch.equal(logits[mode, head], whole_pass(model, layer.name, 2, [silent], batch))
    assert state(model) == before


def counted(model):
    """How often each module has computed its output."""
    counts = {name: 0 for name, _ in model.named_modules()}
    for name, module in model.named_modules():
        module.forward = _counting(name, module.forward, counts)
    return counts


def _counting(name, forward, counts):
    def count(*args, **kwargs):
        counts[name] += 1
        return forward(*args, **kwargs)

    return count


def test_what_is_before_a_layer_is_computed_once():
    model, layers, batch = with_layers(deit)
    counts = counted(model)
    list(ablations(model, layers, batch))
    passes = 2 * 3
    assert counts["patch_embed.proj"] == 1
    assert [counts[f"blocks.{number}.attn.qkv"] for number in range(3)] == [1, passes + 1, 2 * passes + 1]
    assert [counts[f"blocks.{number}.attn.proj"] for number in range(3)] == [passes + 1, 2 * passes + 1, 3 * passes]
    assert [counts[f"blocks.{number}.mlp.fc1"] for number in range(3)] == [passes + 1, 2 * passes + 1, 3 * passes]
    assert counts["head"] == 3 * passes


def test_a_forward_of_ones_own_is_put_back():
    model, layers, batch = with_layers(deit)
    model.blocks[1].forward = own = lambda x, *args, **kwargs: x
    list(ablations(model, [layers[0], layers[2]], batch))
    assert vars(model.blocks[1])["forward"] is own


def test_a_module_that_is_not_called_ends_the_pass_with_an_error():
    model, batch = Network(), images(64)
    before = state(model)
    with pytest.raises(ValueError, match="does not call Identity again"):
        Trunk(model, batch).extend(model.same)
    assert state(model) == before


def test_a_network_that_goes_another_way_each_time_is_refused():
    class Moody(Network):
        turn = 0

        def between(self, x, number):
            self.turn += 1
            return self.norm(x) if self.turn % 3 else self.same(self.norm(x)) + self.act(x)

    model, batch = Moody(), images(64)
    with pytest.raises(UserError, match="in another order"):
        list(ablations(model, attention_layers(model, batch), batch))
    assert not any("forward" in vars(module) for module in model.modules())
