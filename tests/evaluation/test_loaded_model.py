"""Loading a model for measurement."""

from textgen.evaluation.loaded_model import LoadedModel
from textgen.model.config import ModelConfig
from textgen.model.locate import find_model


def test_a_loaded_model_is_what_was_found_on_the_device_of_the_accelerator(accelerator):
    found = find_model(ModelConfig(model="tiny-gpt2"))
    loaded = LoadedModel.load(accelerator, found, seed=0)
    assert (loaded.accelerator, loaded.tokenizer, loaded.name) == (accelerator, found.tokenizer, "tiny-gpt2")
    assert loaded.context == found.context == loaded.model.config.n_positions
    assert loaded.device == accelerator.device == next(loaded.model.parameters()).device
    assert loaded.eos_token_id == loaded.tokenizer.eos_token_id is not None


def test_a_tokenizer_may_have_no_end_of_text_token(accelerator, tokenizer_with):
    assert LoadedModel(accelerator, None, tokenizer_with(), 64).eos_token_id is None


def test_random_weights_depend_on_the_seed_only(accelerator):
    found = find_model(ModelConfig(model="tiny-gpt2", from_scratch=True))
    same, again, other = (LoadedModel.load(accelerator, found, seed=seed).model for seed in (1, 1, 2))
    weights = [model.get_input_embeddings().weight for model in (same, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])
