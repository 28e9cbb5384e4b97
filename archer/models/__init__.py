"""What is known of a model: its folder, configuration, tokenizer, chat template, context, digests; its LM head.

In: a recipe's ``model`` section. Out: a loaded model, or what is known without its weights. May use: recipe and below.
"""
