"""Worker of the two-process test: trains a recipe under ``torchrun``."""

import json
import sys
from pathlib import Path

from spatialformer_core.corpus import Corpus
from spatialformer_core.trainer import Background, TrainRecipe, fit

recipe = TrainRecipe.model_validate(json.loads(sys.argv[1]))
fit(recipe, Corpus.load(Path(sys.argv[2])), Path(sys.argv[3]), Background(simulated=True))
