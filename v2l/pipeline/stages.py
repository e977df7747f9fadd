"""The stages, in the order in which they run."""

STAGES = (
    "fetch_assets",
    "index_images",
    "expand_vocabulary",
    "embed_vocabulary",
    "embed_images",
    "decode_images",
    "filter_vocabulary",
    "train_tokenizer",
    "extract_tokens",
    "finetune_llm",
    "evaluate_llm",
    "reconstruct_images",
    "score_predictions",
    "make_tables",
    "make_figures",
    "make_report",
)
