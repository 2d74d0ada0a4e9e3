"""The stages of training: recogniser, encoders, autoencoder, vocoder."""
