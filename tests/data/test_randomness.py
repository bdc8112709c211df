"""Randomness is a function of the key."""

import numpy as np
import torch

from ldm.data.randomness import generator, key_seed, noise


def test_the_same_key_gives_the_same_numbers_and_another_key_others():
    assert torch.equal(noise((4, 3), "noise", 1, 2), noise((4, 3), "noise", 1, 2))
    keys = [("noise", 1, 2), ("noise", 2, 1), ("noise", 12), ("noise", "1", 2), ("n", 1, 2), ("noise", 1, 2 + 2**32)]
    drawn = torch.stack([noise((16,), *key) for key in keys])
    assert len(torch.unique(drawn, dim=0)) == len(keys)


def test_how_much_others_draw_changes_nothing():
    torch.manual_seed(0)
    alone = noise((5,), "noise", 17)
    torch.rand(1000)
    assert torch.equal(alone, noise((5,), "noise", 17))


def test_it_is_the_mersenne_twister_with_all_of_its_state_from_the_key():
    key = generator("a", 1)
    words = key.get_state()[24 : 24 + 8 * 624].view(torch.int64).numpy().astype(np.uint32)
    assert len(np.unique(words)) > 620
    twister = np.random.RandomState()
    twister.set_state(("MT19937", words, 624))
    expected = [(int(word) & (2**24 - 1)) / 2**24 for word in twister.randint(0, 2**32, 2000, dtype=np.uint32)]
    assert torch.rand(2000, generator=key).tolist() == expected


def test_golden_numbers():
    torch.testing.assert_close(
        noise((3,), "noise", 1, 2), torch.tensor([0.4123697, -0.9170545, -1.0204775]), rtol=0, atol=1e-6
    )
    assert key_seed("noise", 1, 2) == 1633174762947010883
