"""What earlier runs give to later ones: teachers, starting weights, larger nets, averages and selected data."""
