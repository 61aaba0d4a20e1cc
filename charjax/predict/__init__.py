"""What anything that predicts the next character can do: score texts and write them."""
