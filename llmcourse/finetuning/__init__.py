"""Fine-tuning a model on records: LoRA by peft or every weight, the loop by transformers' Trainer.

`finetune` is the one call; `Config` has the settings, and `suggest` chooses those left open. The
loss is computed on completion tokens only (`loss`), every update's records are laid out before the
first (`plan`), a training that is killed goes on exactly where it was (`checkpoints`), and the
result is a folder that `models.load` reads (`tuned`).
"""

from llmcourse.finetuning.adapters import merge, with_adapter
from llmcourse.finetuning.runner import finetune
from llmcourse.finetuning.settings import Config, suggest
from llmcourse.finetuning.tuned import TrainingStopped, TunedModel
from llmcourse.loss import completion_loss, mean_loss
