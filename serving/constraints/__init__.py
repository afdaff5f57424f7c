"""What strings must keep to: patterns as automata, and strings that are taken."""
