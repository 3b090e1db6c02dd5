#!/usr/bin/env python3
"""What idiolect writes of evaluations and rows, read by those whose shape it is.

    .venv/bin/pip install lm-eval==0.4.13 datasets
    .venv/bin/python bench/outside/results.py

An evaluation is imported from the fixtures, written as lm-eval's results and as parquet. lm-eval's own table must show the accuracy that idiolect states, its finders
of files must find the files, `datasets` must load samples and table with every row, and what lm-eval wrote and idiolect wrote must have the same fields.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

FIXTURES = pathlib.Path(__file__).parents[2] / "fixtures" / "outside"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=os.path.abspath, default="target/release/idiolect")
    program = parser.parse_args().program
    os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")
    from datasets import load_dataset
    from lm_eval.utils import get_file_task_name, get_results_filenames, get_sample_results_filenames, make_table

    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)

        def idiolect(*arguments):
            done = subprocess.run([program, *map(str, arguments), "-q"], cwd=work, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{arguments}: {done.stderr}")
            return done.stdout

        samples = next(FIXTURES.glob("lm-eval/samples_eggs_greedy_*.jsonl"))
        stated = json.loads(idiolect("import", "gsm8k", samples, "-o", "problems.jsonl", "--eval", "eval.jsonl", "--json"))
        idiolect("convert", "eval.jsonl", "-o", "out", "--to", "lm-eval", "--problems", "problems.jsonl")
        idiolect("convert", "eval.jsonl", "-o", "data/eval.parquet", "--to", "parquet")
        idiolect("convert", "problems.jsonl", "-o", "problems.parquet", "--to", "parquet")
        files = [str(path) for path in (work / "out").iterdir()]
        [results], [written] = get_results_filenames(files), get_sample_results_filenames(files)
        document = json.loads(pathlib.Path(results).read_text())
        table = make_table(document)
        print(table)
        accuracy = stated["correct"] / stated["eval"]
        passed = document["results"]["gsm8k"]["exact_match,none"] == accuracy and f"{accuracy:g}" in table and get_file_task_name(pathlib.Path(written).name) == "gsm8k"
        theirs = json.loads(next(FIXTURES.glob("lm-eval/results_*.json")).read_text())
        missing = sorted(set(theirs) - set(document))
        ours = json.loads(pathlib.Path(written).read_text().splitlines()[0])
        missing += sorted(set(json.loads(samples.read_text().splitlines()[0])) - set(ours))
        print(f"fields of lm-eval's files that are not in idiolect's: {missing or 'none'}")
        loaded = {name: load_dataset(kind, data_files=path, split="train", cache_dir=str(work / "cache"))
                  for name, kind, path in [("samples", "json", written), ("evaluation", "parquet", str(work / "data/eval.parquet")), ("problems", "parquet", str(work / "problems.parquet"))]}
        for name, rows in loaded.items():
            print(f"datasets: {name} has {len(rows)} rows of {', '.join(rows.column_names)}")
        passed &= not missing and all(len(rows) == 5 for rows in loaded.values())
        passed &= loaded["evaluation"]["text"][0] == json.loads((work / "eval.jsonl").read_text().splitlines()[0])["text"]
    print("passed" if passed else "failed")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
