"""Input files that depend on wildcards; no rules."""


def import_codebook(wildcards):
    """This experiment's codebook, for an imported tokenizer whose words are not published with it."""
    entry = CONFIG.tokenizers[wildcards.tokenizer]
    needs = has_checkpoint(entry) and entry.method == "v2l" and not entry.codebooks
    return [f"{RESULTS}/filter_vocabulary/codebook.safetensors"] if needs else []


def import_embedding(wildcards):
    """This experiment's vocabulary embedding, from which a training's weights file gets what it need not hold."""
    needs = not has_checkpoint(CONFIG.tokenizers[wildcards.tokenizer])
    return [f"{RESULTS}/embed_vocabulary/embedding.safetensors"] if needs else []


def import_code(wildcards):
    """The code that imports a tokenizer."""
    published = has_checkpoint(CONFIG.tokenizers[wildcards.tokenizer])
    return code_of("models/imports" if published else "models/own_weights")(wildcards)


def task_files(wildcards):
    """Files of few-shot episodes, if they are not drawn."""
    if wildcards.task != "classification":
        return []
    run = Run(wildcards.tokenizer, Source.of_run(wildcards.task, wildcards.predictor))
    return required_files.used_episode_files(CONFIG, run)


def predictor_features(wildcards):
    """Image features, for baselines that read them."""
    baseline = BASELINES.get(wildcards.predictor)
    needs = baseline is not None and baseline.reads_features
    return [f"{RESULTS}/embed_images/{CONFIG.samples['classification'].dataset}.safetensors"] if needs else []


def predictor_adapter(wildcards):
    """Adapter of a language model, for the one task that it is fine-tuned for."""
    needs = wildcards.task == "masked" and wildcards.predictor in CONFIG.llms
    folder = f"{RESULTS}/finetune_llm/{wildcards.tokenizer}/{wildcards.predictor}"
    return [f"{folder}/adapter_model.safetensors"] if needs else []


def source_manifest(wildcards):
    """Manifest of a source's sample."""
    return f"{RESULTS}/index_images/{CONFIG.samples[source_task(wildcards)].dataset}.parquet"


def training_manifest(wildcards):
    """Manifest of the training pictures, whose mean is an image."""
    is_mean = source_task(wildcards) == "reconstruction"
    return [f"{RESULTS}/index_images/{CONFIG.train_tokenizer.dataset}.parquet"] if is_mean else []


def figure_inputs(name):
    """An input function: the files that a figure's job calls `name`."""
    return lambda wildcards: [
        f"{RESULTS}/{path}" for path in figure_files.figure_files(CONFIG, wildcards.figure).get(name, [])
    ]


def table_scores(ending):
    """An input function: the files of scores that a table is made of, `json` by row or `parquet` by item."""

    def files(wildcards):
        try:
            return [f"{RESULTS}/score_predictions/{run}.{ending}" for run in TABLES[wildcards.table].runs(CONFIG)]
        except UserError as error:
            raise WorkflowError(str(error)) from None

    return files
