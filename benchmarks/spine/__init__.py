"""The sensor job, run by Thalweg and by its peers on one broker in one session."""
