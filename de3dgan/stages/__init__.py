"""What the stage scripts do: generators, classifier, augmentation, generation, virtual people."""
