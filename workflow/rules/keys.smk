"""The keys of the configuration that decide a job, where they depend on wildcards; no rules."""


def source_keys(wildcards):
    """What decides the images of the task whose tokens a source decodes; clean tokens belong to no task."""
    own = {"restoration": ("tasks", "images_of", "held_out"), "masked": ("mask_share",)}
    task = source_task(wildcards)
    return [f"evaluate_llm.{task}.{key}" for key in own.get(task, ())]


def pixel_keys(wildcards):
    """What decides images that no tokenizer made."""
    own = {
        "reconstruction": ["train_tokenizer.splits"],
        "restoration": ["extract_tokens.corruption", "evaluate_llm.restoration.tasks"],
    }
    network = [f"train_tokenizer.network.{key}" for key in ("image_size", "resize_via", "channel_multipliers")]
    return [f"samples.{source_task(wildcards)}", *network, *own[source_task(wildcards)]]


def reconstruct_slice(keys_of, tokenizer="{tokenizer}", source="{source}"):
    """Params of decoded images: the settings of the stage and `keys_of(wildcards)`."""
    return lambda w: slice_of("seed", "reconstruct_images", *keys_of(w), tokenizer=tokenizer, source=source)(w)


def extraction_keys(wildcards):
    """What decides the tokens of a sample; only corrupted images depend on how images are corrupted."""
    is_corrupted = set(CONFIG.samples[wildcards.sample].corruptions) != {"none"}
    keys = [f"extract_tokens.{key}" for key in ("precision", "batch_size")]
    return keys + (["extract_tokens.corruption", "encoder", f"encoders.{CONFIG.encoder}"] if is_corrupted else [])


def predictor_keys(wildcards):
    """Registry entry of the predictor, if it is a language model."""
    try:
        return language_model_keys(CONFIG, wildcards.predictor)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def score_slice(source, *keys):
    """Params of a score: the metric settings and what is scored."""
    return slice_of("seed", "score_predictions", *keys, tokenizer="{tokenizer}", source=source)


def encoder_keys(wildcards):
    """The encoder, for the one task whose score compares texts with images."""
    return ["encoder", f"encoders.{CONFIG.encoder}"] if wildcards.task == "captioning" else []
