"""char-rnn's recipe with its defaults, on tinyshakespeare.

    python launch.py --config configs/char_rnn.py
    charjax train --config char_rnn

LSTM 2 x 128 on one-hot characters; RMSProp at 2e-3, multiplied by 0.97 an epoch after
the tenth; gradients of the loss summed over 50 steps, each clipped at 5. With
`train.max_steps=10998`, which is epoch 26, the validation loss is 1.3826 nats a
character after 2 min 40 s on two cores of an AMD EPYC with AVX-512; 1.3939 is reported
for char-rnn at that epoch.

The options of char-rnn and torch-rnn, and the fields and commands that replace them:

    -data_dir                  the text after `charjax train`, or data.dir
    -train_frac, -val_frac     data.train_frac, data.val_frac; the rest is for testing
    -batch_size, -seq_length   data.batch_size, data.seq_length
    -model                     model.cell (its GRU is gru_reset_before)
    -rnn_size, -num_layers     model.hidden_size, model.num_layers
    -dropout                   model.dropout
    -learning_rate             optimizer.learning_rate
    -learning_rate_decay       optimizer.decay_rate, with optimizer.schedule=exponential
    -learning_rate_decay_after optimizer.decay_after_epochs
    -decay_rate                optimizer.b2, with optimizer.name=rmsprop
    -grad_clip                 optimizer.grad_clip, with optimizer.clip_mode=value and
                               optimizer.sum_over_time=true
    -max_epochs                train.max_epochs
    -init_from                 train.init_from: weights only; the same command continues
                               a stopped run
    -seed                      train.seed
    -print_every               train.print_every
    -eval_val_every            train.eval_every
    -checkpoint_dir, -savefile train.checkpoint_dir, train.run_name
    -gpuid, -opencl            train.device
    th sample.lua CHECKPOINT   charjax sample PATH
    -sample 0                  --greedy
    -primetext, -length        --prime, --length (which excludes the prime)
    -temperature, -seed        --temperature, --seed
    th inspect_checkpoint.lua  charjax inspect
    -wordvec_size              model.embedding_size; 0 is one-hot
    --encoding bytes           data.encoding=bytes
    eval.lua                   charjax score
    novel_substrings.py        charjax novel
"""

from charjax.config import Config, default_config


def get_config() -> Config:
    config = default_config()
    config.train.run_name = "char_rnn"
    config.data.name = "tinyshakespeare"

    config.model.init = "uniform"

    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.b2 = 0.95
    config.optimizer.schedule = "exponential"
    config.optimizer.warmup_steps = 0
    config.optimizer.sum_over_time = True
    config.optimizer.clip_mode = "value"
    config.optimizer.grad_clip = 5.0

    config.train.reset_rate = 0.0
    return config
