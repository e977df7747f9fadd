"""Models and pictures of the `tiny` experiment: the paper's formats at toy sizes, seeded random weights.

`python -m tests.tiny FOLDER` writes FOLDER/tiny, which config/experiments/tiny.yaml names relative to the run's folder.
"""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import lpips
import numpy as np
import open_clip
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

NOUNS = ["cat", "dog", "bird", "fish", "tree", "car", "boat", "house", "sun", "moon", "star", "hand"]
WORDS = [*NOUNS, "red", "green", "blue", "small", "big", "round", "old", "new"]
SYNSETS = {f"n0000000{i}": name for i, name in enumerate(["red cat", "green dog", "blue bird", "old boat"], start=1)}


def build(folder: Path) -> Path:
    """Write every model and picture of the tiny experiment to `folder`/tiny; returns that path."""
    tiny = folder / "tiny"
    tiny.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    write_llama(tiny / "llama")
    write_clip(tiny)
    write_roberta(tiny / "roberta")
    write_imagenet(tiny / "imagenet")
    write_mini_imagenet(tiny / "mini-imagenet")
    write_coco(tiny / "coco")
    write_lpips(tiny)
    write_inception(tiny / "inception.pth")
    return tiny


def sentences() -> list[str]:
    """A seeded corpus."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice([*WORDS, "a", "photo", "of", "the"], 8)) for _ in range(400)]


def shape(tokenizer: PreTrainedTokenizerBase, width: int, context: int) -> dict[str, int | float]:
    """Settings of a transformer of two layers, with weights so large that its outputs differ from input to input."""
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "max_position_embeddings": context}
    return {"vocab_size": len(tokenizer)} | layers | sizes


def write_llama(folder: Path) -> None:
    """A LLaMA with a SentencePiece vocabulary: byte tokens, leading-space marker, three control tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=model,
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = LlamaTokenizer.from_pretrained(folder, legacy=False)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(**shape(tokenizer, width=32, context=1024), bos_token_id=1, eos_token_id=2)
    LlamaForCausalLM(config).save_pretrained(folder)


def write_roberta(folder: Path) -> None:
    """A RoBERTa with its masked-LM head, random weights and a byte-level BPE vocabulary of its own."""
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    special["mask_token"] = "<mask>"
    model = ByteLevelBPETokenizer()
    model.train_from_iterator(sentences(), 320, special_tokens=list(special.values()), show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model._tokenizer, **special)
    tokenizer.save_pretrained(folder)
    RobertaForMaskedLM(RobertaConfig(**shape(tokenizer, width=16, context=40))).save_pretrained(folder)


def write_clip(folder: Path) -> None:
    """An open_clip model: clip.json and clip.safetensors."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "clip.json").write_text(json.dumps(config))
    model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "clip.safetensors")


def picture(label: int, number: int) -> Image.Image:
    """A 48 x 40 picture whose colour says its class, with a seeded square on it."""
    rng = np.random.default_rng([label, number])
    pixels = np.tile(np.array([(200, 40, 40), (40, 180, 60), (50, 60, 210), (230, 200, 90)][label]), (40, 48, 1))
    top, left = rng.integers(0, 28, 2)
    pixels[top : top + 12, left : left + 12] = rng.integers(0, 256, 3)
    return Image.fromarray((pixels + rng.integers(-12, 12, pixels.shape)).clip(0, 255).astype(np.uint8))


def write_imagenet(folder: Path, train: int = 6, val: int = 4) -> None:
    """ImageNet's layout with four classes; one validation file is truncated."""
    for label, wnid in enumerate(SYNSETS):
        for split, count, offset in (("train", train, 0), ("val", val, 100)):
            (folder / split / wnid).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                name = folder / split / wnid / f"{wnid}_{offset + number}.JPEG"
                picture(label, offset + number).save(name, quality=95)
    broken = folder / "val" / "n00000001" / "n00000001_999.JPEG"
    broken.write_bytes((folder / "val" / "n00000001" / "n00000001_100.JPEG").read_bytes()[:300])
    lines = [f"{wnid} {name}, another {name}\n" for wnid, name in SYNSETS.items()]
    (folder / "LOC_synset_mapping.txt").write_text("".join(lines))


def write_mini_imagenet(folder: Path, images: int = 5) -> None:
    """mini-ImageNet's layout: images/ and three lists; the test split holds three classes."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    splits = {"train": [3], "val": [3], "test": [0, 1, 2]}
    for split, labels in splits.items():
        lines = ["filename,label"]
        for label in labels:
            wnid = list(SYNSETS)[label]
            for number in range(images):
                name = f"{wnid}{split}{number:08d}.jpg"
                picture(label, 200 + number).save(folder / "images" / name, quality=95)
                lines.append(f"{name},{wnid}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")


def write_coco(folder: Path, images: int = 8) -> None:
    """COCO's val2014 with two captions and two questions of ten answers for each image."""
    (folder / "val2014").mkdir(parents=True, exist_ok=True)
    listed, captions, questions, answers = [], [], [], []
    for number in range(images):
        label, name = number % 4, f"COCO_val2014_{number:012d}.jpg"
        picture(label, 300 + number).save(folder / "val2014" / name, quality=95)
        colour, noun = list(SYNSETS.values())[label].split()
        listed.append({"id": number, "file_name": name})
        for part, text in enumerate([f"A {colour} {noun}.", f"A {noun} that is {colour} and {WORDS[number]}"]):
            captions.append({"id": 2 * number + part, "image_id": number, "caption": text})
        for part, (question, answer) in enumerate([("What color is it?", colour), (f"Is it a {noun}?", "yes")]):
            entry = {"question_id": 10 * number + part, "image_id": number}
            questions.append(entry | {"question": question})
            found = [{"answer": answer if place < 7 else "no", "answer_id": place + 1} for place in range(10)]
            answers.append(entry | {"multiple_choice_answer": answer, "answers": found})
    contents = {
        "captions_val2014": {"images": listed, "annotations": captions},
        "questions": {"data_subtype": "val2014", "questions": questions},
        "annotations": {"data_subtype": "val2014", "annotations": answers},
    }
    for stem, content in contents.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))


def write_lpips(folder: Path) -> None:
    """Random LPIPS networks in the `lpips` package's layout: lpips-alex.safetensors and lpips-vgg.safetensors."""
    for net in ("alex", "vgg"):
        with redirect_stdout(io.StringIO()):
            network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True)
        state = {
            name: tensor.abs() if name.startswith("lin") else tensor for name, tensor in network.state_dict().items()
        }
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in state.items()}, folder / f"lpips-{net}.safetensors"
        )


def write_inception(path: Path) -> None:
    """Random weights in the layout of torch-fidelity's Inception-v3 checkpoint."""
    extractor = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    saved = {}
    original = FeatureExtractorInceptionV3.load_state_dict
    try:
        FeatureExtractorInceptionV3.load_state_dict = lambda self, state: saved.update(self.state_dict())
        torch.save({}, path)
        extractor.__init__("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
    finally:
        FeatureExtractorInceptionV3.load_state_dict = original
    # Drawn so that activations neither vanish nor explode: equal features for all images would make every distance 0.
    for name, tensor in saved.items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(tensor)
    torch.save(saved, path)


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
